"""Windows, lateness and watermarks as `verify` recomputes them. Times in seconds; WATERMARK_DELAY_S=0 unless said.

window [0, 60)   end 60   final, with an allowed lateness of 30, at watermark 90
"""

from dataclasses import dataclass

import pytest

from commands.audit.engine import Engine, connect
from commands.audit.windows import USUAL, Grouping, every_size, groupings, sizes
from commands.verify import watermarks, windows

S = 1_000_000
LATENESS = 30 * S


@dataclass
class Sale:
    at: float
    transaction: int = 0
    quantity: int = 1
    total: float = 1.0
    store: int = 1
    ts: float = 1e6
    partition: int = 0
    method: str = "cash"


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    engine.execute("CREATE TABLE rises (partition BIGINT, next_offset BIGINT, watermark BIGINT)")
    return engine


def stream(
    engine: Engine,
    *sales: Sale,
    setting: str = "1m",
    delay: int = 0,
    watermark: float | None = None,
    declared: str = USUAL,
) -> None:
    """Judge sales; record i of them has the raw and the clean offset i."""
    rows = ", ".join(
        f"({s.partition}, {i}, {round(s.ts * S)}, {s.transaction or i + 1}, {s.store}, {round(s.at * S)}, 1, 7,"
        f" {s.quantity}, '{s.method}', 1.0::DOUBLE, {s.total}::DOUBLE, 0.25::DOUBLE, 0.1::DOUBLE,"
        " NULL::BLOB, NULL::VARCHAR)"
        for i, s in enumerate(sales)
    )
    engine.execute(f"""
        CREATE TABLE raw_sales AS SELECT * FROM (VALUES {rows}) t(partition, "offset", ts, transaction_id, store_id,
            event_time, customer_id, product_id, quantity, payment_method, unit_price, total_amount, discount_applied,
            tax_amount, replay_of, extra)
    """)
    engine.execute('CREATE TABLE places_sales AS SELECT partition, "offset", true AS good FROM raw_sales')
    engine.execute('CREATE TABLE first_sales AS SELECT partition, "offset", "offset" AS source_offset FROM raw_sales')
    engine.execute("""
        CREATE TABLE positions AS SELECT DISTINCT 'aggregator' AS consumer_group, 'sales.clean' AS topic, partition,
        1000 AS next_offset FROM raw_sales
    """)
    entries = groupings(declared, sizes(setting))
    watermarks.judge(engine, delay * S)
    windows.judge(engine, every_size(entries), LATENESS)
    mark = None if watermark is None else round(watermark * S)
    for grouping in entries:
        windows.make_windows(engine, grouping, LATENESS, mark)


def rows(engine: Engine, columns: str = "window_start // 1000000, transactions") -> list[tuple]:
    return engine.execute(
        f"SELECT {columns} FROM windows_store ORDER BY window_size, window_start, store_id"
    ).fetchall()


def late(engine: Engine) -> list[int]:
    return [o for (o,) in engine.execute('SELECT "offset" FROM counted WHERE too_late ORDER BY 1').fetchall()]


def test_a_sale_at_the_start_is_in_and_at_the_end_is_in_the_next(engine):
    stream(engine, Sale(at=0), Sale(at=59.999999), Sale(at=60))
    assert rows(engine) == [(0, 2), (60, 1)]


def test_windows_are_aligned_with_floor_before_1970_too(engine):
    stream(engine, Sale(at=-61), Sale(at=-60), Sale(at=-1))
    assert rows(engine) == [(-120, 1), (-60, 2)]


@pytest.mark.parametrize(("watermark", "too_late"), [(89.999999, []), (90, [1]), (91, [1])])
def test_a_sale_is_too_late_when_the_watermark_is_at_the_end_and_the_lateness(engine, watermark, too_late):
    stream(engine, Sale(at=watermark), Sale(at=10))
    assert late(engine) == too_late
    assert ((0, 1) in rows(engine)) == (not too_late)


def test_a_records_own_time_does_not_make_it_late(engine):
    stream(engine, Sale(at=0), Sale(at=500), Sale(at=0))
    assert late(engine) == [2]


def test_the_watermark_trails_by_its_delay_and_never_passes_the_records_timestamp(engine):
    stream(engine, Sale(at=200, ts=100), Sale(at=10), Sale(at=95, ts=100), Sale(at=10), delay=10)
    assert engine.execute('SELECT before // 1000000 FROM sales ORDER BY "offset"').fetchall() == [
        (None,), (90,), (90,), (90,)
    ]  # fmt: skip


def test_partitions_have_watermarks_of_their_own(engine):
    stream(engine, Sale(at=500), Sale(at=10, partition=1, store=2))
    assert late(engine) == []


def test_a_rise_holds_from_its_offset_on_and_stays(engine):
    engine.execute(f"INSERT INTO rises VALUES (0, 2, {90 * S}), (0, 3, {80 * S})")
    stream(engine, Sale(at=1), Sale(at=2), Sale(at=3), Sale(at=4), Sale(at=61))
    assert late(engine) == [2, 3]


def test_a_sale_that_its_source_publishes_again_counts_once(engine):
    stream(engine, Sale(at=10, transaction=7), Sale(at=10, transaction=7, total=99), Sale(at=11, transaction=7))
    assert rows(engine, "transactions, gross_sales") == [(2, 200)]


@pytest.mark.parametrize(("watermark", "duplicate"), [(89.999999, True), (90, False)])
def test_an_identity_is_held_until_its_last_window_is_final(engine, watermark, duplicate):
    stream(engine, Sale(at=10, transaction=7), Sale(at=watermark), Sale(at=10, transaction=7))
    assert engine.execute('SELECT duplicate, too_late FROM counted WHERE "offset" = 2').fetchall() == [
        (duplicate, not duplicate)
    ]
    assert sum(t for (t,) in rows(engine, "transactions")) == 2


def test_hopping_windows_overlap_and_a_late_sale_misses_only_the_oldest(engine):
    #  [-60,60) is final at 90: the sale at 10 misses it and is in time for [0,120)
    stream(engine, Sale(at=95), Sale(at=10), setting="2m/1m")
    assert rows(engine) == [(0, 2), (60, 1)]
    assert late(engine) == [1]


@pytest.mark.parametrize(
    ("watermark", "state"), [(None, "open"), (59.999999, "open"), (60, "fired"), (89.999999, "fired"), (90, "final")]
)
def test_the_state_follows_the_streams_watermark(engine, watermark, state):
    stream(engine, Sale(at=10), watermark=watermark)
    assert rows(engine, "state") == [(state,)]


def test_money_is_integer_cents_rounded_half_to_even_and_returns_are_apart(engine):
    stream(engine, Sale(at=1, total=0.125), Sale(at=2, total=0.375), Sale(at=3, quantity=-2, total=-5.0))
    measures = "transactions, units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, net_sales"
    assert rows(engine, measures) == [(3, 2, 2, 12 + 38, 500, 75, 30, 50 - 500 - 75)]


@pytest.mark.parametrize("grouping", groupings(USUAL, sizes("1m")))
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE {} SET gross_sales = gross_sales + 1", "gross_sales expected 1.00, found 1.01"),
        ("UPDATE {} SET state = 'fired'", "state expected 'open', found 'fired'"),
        ("DELETE FROM {}", "window_start 1970-01-01T00:00:00Z"),
    ],
)
def test_one_changed_cent_in_one_window_is_named(engine, grouping: Grouping, damage, words):
    stream(engine, Sale(at=10))
    table = grouping.table
    engine.execute(f"CREATE TABLE {table} AS SELECT * FROM {windows.made(grouping)}")
    assert windows.window_check(engine, grouping).ok

    engine.execute(damage.format(table))

    check = windows.window_check(engine, grouping)
    assert not check.ok
    assert words in check.examples[0]


def test_a_text_is_grouped_by_its_first_500_characters_in_windows_of_its_own(engine):
    long = "e\u0301" * 250
    sales = [Sale(at=10, method=m) for m in (long, f"{long}a", f"{long}b", long[:-1], "")]
    declared = f"{USUAL}; method by payment_method measures transactions,taxes windows 2m"
    stream(engine, *sales, Sale(at=70, method=""), declared=declared)
    query = "SELECT payment_method, window_start, transactions FROM windows_method ORDER BY 1"
    found = engine.execute(query).fetchall()
    assert found == [("", 0, 2), (long[:-1], 0, 1), (long, 0, 3)]
    grouping = groupings(declared, sizes("1m"))[2]
    engine.execute(f"""
        CREATE TABLE {grouping.table} AS
        SELECT window_size, window_start, payment_method, window_end, transactions, taxes, state FROM windows_method
    """)
    assert windows.window_check(engine, grouping).ok
    engine.execute(f"UPDATE {grouping.table} SET taxes = taxes + 1 WHERE payment_method = ''")
    assert "taxes expected 0.20, found 0.21" in windows.window_check(engine, grouping).examples[0]


def test_a_sale_is_late_if_it_misses_a_window_of_any_grouping(engine):
    #  [0,30) is final at 60, [0,60) at 90
    stream(engine, Sale(at=65), Sale(at=10), declared=f"{USUAL}; method by payment_method windows 30s")
    assert late(engine) == [1]
    assert rows(engine) == [(0, 1), (60, 1)]
    assert engine.execute("SELECT window_start, transactions FROM windows_method").fetchall() == [(60 * S, 1)]


VISITS = f"{USUAL}; visit by product_id session 10s"


def sessions(engine: Engine) -> list[tuple]:
    query = "SELECT window_start / 1e6, window_end / 1e6, transactions, state FROM windows_visit ORDER BY 1"
    return engine.execute(query).fetchall()


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ((0, 9.999999), [(0, 19.999999, 2, "open")]),
        ((10, 0), [(0, 20, 2, "open")]),
        ((0, 10.000001), [(0, 10, 1, "open"), (10.000001, 20.000001, 1, "open")]),
        ((-15, 5, -5, 5), [(-15, 15, 4, "open")]),
    ],
)
def test_sales_of_an_id_at_most_the_gap_apart_are_in_one_session(engine, times, wanted):
    stream(engine, *(Sale(at=t, store=i) for i, t in enumerate(times)), declared=VISITS)
    assert sessions(engine) == wanted


@pytest.mark.parametrize(
    ("watermark", "state"), [(9.999999, "open"), (10, "fired"), (49.999999, "fired"), (50, "final")]
)
def test_a_session_is_final_a_gap_later_than_a_window(engine, watermark, state):
    stream(engine, Sale(at=0), watermark=watermark, declared=VISITS)
    assert sessions(engine) == [(0, 10, 1, state)]


@pytest.mark.parametrize(("watermark", "too_late"), [(59.999999, []), (60, [1])])
def test_a_sale_is_too_late_for_sessions_when_one_of_its_own_would_be(engine, watermark, too_late):
    #  a sale at 20 is a session until 30, and in time until 60; [0, 60) is until 90
    stream(engine, Sale(at=watermark), Sale(at=20), declared=VISITS)
    assert late(engine) == too_late
    assert len(sessions(engine)) == 2 - len(too_late)
    assert sum(t for (t,) in rows(engine, "transactions")) == 2
