"""Times on a boundary, drawn. W: watermark before the record; [ ): a window; x: the sale."""

from datetime import UTC, datetime

import polars as pl
import pytest

from retail_stream.errors import SettingsError
from retail_stream.settings import load
from retail_stream.warehouse.positions import Position
from services.aggregator import duplicates, idleness, lifecycle, settings, step, totals, watermark
from services.aggregator.declared import USUAL
from services.aggregator.lifecycle import update_windows
from services.aggregator.ownership import OwnedPartition
from services.aggregator.step import PartitionBatch, Rules, StreamState
from services.aggregator.watermark import Rise, Stream
from services.aggregator.windows import SECOND, Window, may_be_due, parse
from tests.harness.sales_streams import DTYPES

MINUTE = 60 * SECOND
LATENESS = 20 * SECOND
DELAY = 10 * SECOND


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc,arg-type]


T = at(2026, 11, 23, 12, 0)


def sale(event_time: int, offset: int = 0, **other: object) -> dict[str, object]:
    return {
        "offset": offset, "timestamp": event_time, "transaction_id": offset, "store_id": 1, "event_time": event_time,
        "customer_id": 3, "payment_method": "cash",
        "product_id": 7, "quantity": 1, "unit_price": 1.0, "total_amount": 1.0, "discount_applied": 0.0,
        "tax_amount": 0.0, **other,
    }  # fmt: skip


def run(
    sales: list[dict], mark: int | None = None, stream: int | None = None, windows: str = "1m", idle: bool = False
) -> step.Step:
    rules = Rules(parse(windows), DELAY, LATENESS)
    state = StreamState({0: mark}, frozenset({0} if idle else ()), Stream(stream), {0: ()})
    return step.step({0: PartitionBatch(0, len(sales), pl.DataFrame(sales, schema=DTYPES))}, state, T, rules)


def starts(did: step.Step) -> list[int]:
    return did.deltas["store"]["start"].to_list()


def late(did: step.Step) -> list[bool]:
    return did.sales["late"].to_list()


def test_a_sale_at_a_windows_end_is_in_the_next_one() -> None:
    #  [12:00      )[12:01      )
    #             x |x
    assert starts(run([sale(T + MINUTE - 1, 0), sale(T + MINUTE, 1)])) == [T, T + MINUTE]


@pytest.mark.parametrize(("behind", "is_late"), [(1, False), (0, True), (-1, True)])
def test_a_sale_is_too_late_exactly_when_the_watermark_is_at_end_plus_lateness(behind: int, is_late: bool) -> None:
    #  [12:00  x   )....lateness...|
    #                             W (1 µs before: in time)   W (there: too late)
    did = run([sale(T)], mark=T + MINUTE + LATENESS - behind)
    assert late(did) == [is_late]
    assert starts(did) == ([] if is_late else [T])


def test_a_record_is_judged_by_the_watermark_before_it_and_raises_it_only_for_the_next() -> None:
    far = T + 5 * MINUTE
    assert late(run([sale(far, 0), sale(T, 1)])) == [False, True]
    assert late(run([sale(T, 0), sale(far, 1)])) == [False, False]


def test_an_event_time_after_the_records_timestamp_does_not_raise_the_watermark_further() -> None:
    did = run([sale(T + 5 * MINUTE, timestamp=T)])
    assert did.watermarks == {0: T - DELAY}


@pytest.mark.parametrize(
    ("time", "start"),
    [
        (-1, -MINUTE),  # the last microsecond before 1970
        (-MINUTE, -MINUTE),
        (at(1952, 2, 29, 23, 59, 59), at(1952, 2, 29, 23, 59)),
        (at(2024, 2, 29, 0, 0), at(2024, 2, 29, 0, 0)),
        (at(2024, 2, 29, 23, 59, 59), at(2024, 2, 29, 23, 59)),
    ],
)
def test_windows_are_aligned_before_1970_and_on_a_leap_day(time: int, start: int) -> None:
    assert starts(run([sale(time)])) == [start]


def test_a_day_long_window_of_a_leap_day_is_that_day() -> None:
    assert starts(run([sale(at(2024, 2, 29, 13, 0))], windows="1d")) == [at(2024, 2, 29)]


def test_a_hopping_sale_misses_the_oldest_windows_only() -> None:
    #  [12:00           12:03)
    #     [12:01              12:04)
    #        [12:02                12:05)
    #         x            ^ W = 12:03 + lateness: misses the first
    did = run([sale(T + 2 * MINUTE)], mark=T + 3 * MINUTE + LATENESS, windows="3m/1m")
    assert starts(did) == [T + MINUTE, T + 2 * MINUTE]
    assert late(did) == [True]


def test_a_partition_that_wakes_after_a_day_is_raised_to_the_stream_and_its_old_sales_are_late() -> None:
    day = 24 * 60 * MINUTE
    did = run([sale(T, 0), sale(T + day, 1)], mark=T, stream=T + day, idle=True)
    assert did.rises == (Rise(0, 0, T + day),)
    assert late(did) == [True, False]


def test_a_silent_stream_goes_on_at_the_pace_of_real_time_and_never_jumps() -> None:
    marks, everyone = {0: T, 1: T + 5, 2: None}, {0, 1, 2}
    first = watermark.stream(Stream(T), marks, everyone, now=T + 10**9)
    assert first == Stream(T + 5, T + 10**9)
    second = watermark.stream(first, marks, everyone, now=T + 10**9 + SECOND)
    assert second.watermark == T + 5 + SECOND
    long_after = watermark.stream(second, marks, everyone, now=T + 10**9 + 3600 * SECOND)
    assert long_after.watermark == second.watermark
    back = watermark.stream(second, marks, everyone, now=T)
    assert back.watermark == second.watermark


def test_a_partition_without_records_that_is_not_idle_holds_the_stream_back() -> None:
    assert watermark.stream(Stream(None), {0: T, 1: None}, set(), T).watermark is None
    assert watermark.stream(Stream(None), {0: T, 1: None}, {1}, T).watermark == T


STORES = totals.Grouping(USUAL.aggregations[1], parse("1m"))


def delta(start: int) -> pl.DataFrame:
    row = {"size": MINUTE, "start": start, "id": 1} | dict.fromkeys(totals.MEASURES, 1)
    return pl.DataFrame([row], schema=STORES.schema)


def states(update: lifecycle.WindowUpdate) -> list[tuple[int, str]]:
    return update.results.select("revision", "state").rows()


def test_a_window_fires_at_its_end_is_revised_by_a_late_sale_and_is_final_at_end_plus_lateness() -> None:
    end = T + MINUTE
    opened = update_windows(pl.DataFrame(schema=STORES.rows), delta(T), end - 1, LATENESS)
    assert opened.rows["state"].to_list() == ["open"]
    assert states(opened) == []
    none = delta(T).clear()
    fired = update_windows(opened.rows, none, end, LATENESS)
    assert states(fired) == [(0, "fired")]
    revised = update_windows(fired.rows, delta(T), end + LATENESS - 1, LATENESS)
    assert states(revised) == [(1, "fired")]
    assert revised.rows["transactions"].to_list() == [2]
    final = update_windows(revised.rows, none, end + LATENESS, LATENESS)
    assert states(final) == [(1, "final")]
    assert update_windows(final.rows, none, end + 9 * LATENESS, LATENESS).rows.is_empty()


def test_a_window_first_filled_after_its_end_fires_at_once_and_may_be_final_in_the_same_step() -> None:
    assert states(update_windows(pl.DataFrame(schema=STORES.rows), delta(T), T + MINUTE, LATENESS)) == [(0, "fired")]
    both = update_windows(pl.DataFrame(schema=STORES.rows), delta(T), T + MINUTE + LATENESS, LATENESS)
    assert states(both) == [(0, "fired"), (0, "final")]


def test_whether_windows_may_be_due_is_known_without_asking_the_warehouse() -> None:
    kinds, end = parse("1m"), T + MINUTE
    assert may_be_due(kinds, LATENESS, None, end)
    assert may_be_due(kinds, LATENESS, T, T + LATENESS)
    assert not may_be_due(kinds, LATENESS, T + LATENESS, end - 1)
    assert may_be_due(kinds, LATENESS, end - 1, end)
    assert may_be_due(kinds, LATENESS, end + LATENESS - 1, end + LATENESS)


def test_a_duplicate_is_dropped_while_held_and_late_afterwards() -> None:
    expiry = T + MINUTE + LATENESS
    first, again = sale(T, 0), sale(T, 1, transaction_id=0, quantity=5)
    assert run([first, again]).duplicates == 1
    in_between = sale(expiry + DELAY, 1)
    gone = run([first, in_between, {**again, "offset": 2}])
    assert (gone.duplicates, late(gone)) == (0, [False, False, True])
    other_store = run([first, {**again, "store_id": 2}])
    assert (other_store.duplicates, other_store.conflicts, other_store.sales.height) == (0, 1, 2)


def test_identities_survive_their_bytes_and_the_merging_of_chunks() -> None:
    held: duplicates.Held = ()
    for i in reversed(range(40)):
        rows = run([sale(T + i, 0, transaction_id=i)]).sales
        held = duplicates.hold(held, duplicates.chunk(rows), None)
    assert len(held) < 8
    frames = [c.rows for c in held if c.rows is not None]
    assert [(c.low, c.high, c.size) for c in held] == [
        (r["transaction_id"].min(), r["transaction_id"].max(), r.height) for r in frames
    ]
    stored = [row for r in frames for row in duplicates.from_bytes(duplicates.as_bytes(r)).rows()]
    assert sorted(stored) == [(i, T + i, 1) for i in range(40)]
    assert len(duplicates.hold(held, None, T + MINUTE + LATENESS - 1)) == len(held)
    assert duplicates.hold(held, None, T + MINUTE + LATENESS) == ()


@pytest.mark.parametrize(
    ("amount", "cents"), [(0.125, 12), (0.375, 38), (1.005, 100), (-0.125, -12), (999999999.99, 99999999999)]
)
def test_an_amount_becomes_cents_by_the_double_product_rounded_half_to_even(amount: float, cents: int) -> None:
    assert pl.DataFrame({"a": [amount]}).select(totals.cents("a")).item() == cents


class CountedRise(Rise):
    """A rise that counts how often its offset is read."""

    reads = 0

    def __getattribute__(self, name: str) -> object:
        CountedRise.reads += name == "next_offset"
        return super().__getattribute__(name)


def test_the_rises_of_a_batch_are_looked_up_by_offset_among_all_that_are_to_come() -> None:
    to_come = tuple(CountedRise(0, offset, T) for offset in range(0, 20_000, 2))
    owned = OwnedPartition(Position("sales.clean", 0, 1, 0, -1), (), to_come)
    CountedRise.reads = 0
    assert [owned.rises_up_to(end) for end in (-1, 0, 1, 2, 10_000, 30_000)] == [0, 1, 1, 2, 5001, 10_000]
    assert CountedRise.reads < 6 * 15


def test_of_rises_at_one_offset_the_highest_counts_and_a_later_one_for_later_sales() -> None:
    sales = pl.DataFrame([sale(T, o) for o in range(4)], schema=DTYPES)
    rises = [Rise(0, 4, T + 5), Rise(0, 2, T + 3), Rise(0, 2, T + 1), Rise(0, 1, T)]
    judged, after = watermark.judge_by(sales, None, DELAY, rises)
    assert judged["watermark_before"].to_list() == [None, T, T + 3, T + 3]
    assert after == T + 5


def test_a_partition_is_idle_after_the_timeout_without_a_break() -> None:
    since = idleness.observe({}, {0, 1}, at=100.0)
    since = idleness.observe(since, {0}, at=110.0)
    since = idleness.observe(since, {0, 1}, at=114.9)
    assert idleness.idle(since, 114.9, 15) == frozenset()
    assert idleness.idle(since, 115.0, 15) == {0}


@pytest.mark.parametrize("text", ["", "1", "0m", "-1m", "1m,60s", "5m/2m", "1m/5m", "1w", "1m,", "5m/0m", "2d/1s"])
def test_wrong_windows_are_refused_with_one_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://127.0.0.1:8081")
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/x")
    monkeypatch.setenv("SALES_WINDOWS", text)
    with pytest.raises(
        SettingsError, match=r"^SALES_WINDOWS='.*' has the part '.*; allowed: a list like 1m,1h,5m/1m\.$"
    ):
        load(settings.AggregatorSettings)


def test_windows_are_read_the_shortest_first_with_their_sizes_as_names() -> None:
    assert parse("1h, 5m/1m") == (Window("5m/1m", 5 * MINUTE, MINUTE), Window("1h", 60 * MINUTE, 60 * MINUTE))
    assert [w.name for w in parse("1h,5m/1m")] == ["5m", "1h"]
