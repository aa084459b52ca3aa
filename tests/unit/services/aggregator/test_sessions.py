"""Sessions: where two become one, what is published then, and random streams against a brute-force oracle."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from services.aggregator import totals
from services.aggregator.declared import Aggregation
from services.aggregator.lifecycle import Outcome, WindowUpdate, outcomes
from services.aggregator.sessions import update_sessions
from services.aggregator.totals import Grouping
from services.aggregator.windows import SECOND, parse_gap
from tests.harness.sales_streams import DTYPES, disagreements

SEEDS, PARTS = 2_000, 80
LONG = [pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS)]
VISIT = Grouping(Aggregation("visit", "store_id", session="10s"), (parse_gap("10s"),))
LATENESS = 5 * SECOND


@pytest.mark.parametrize("part", [0, *LONG])
def test_sessions_are_those_of_all_sales_that_are_in_time(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    # Frames of a few rows: polars' threads would only get into each other's way.
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    monkeypatch.syspath_prepend(Path(__file__).parents[4])  # which the process inherits
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(disagreements, range(part, SEEDS, PARTS), with_sessions=True).result() == []


class Sessions:
    """Sessions of a store, batch by batch; times in seconds."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple] = {}

    def batch(self, *times: float, watermark: float | None = None, before: float | None = None) -> list[tuple]:
        """Count a sale of one euro at each time; returns the results: start, end, sales, revision, state."""
        sale = dict.fromkeys(DTYPES, 1) | {"payment_method": "card", "total_amount": 1.0}
        sales = [{**sale, "event_time": round(time * SECOND)} for time in times]
        frame = totals.measured(pl.DataFrame(sales, schema=DTYPES)).with_columns(
            pl.lit(None if before is None else round(before * SECOND), pl.Int64).alias("watermark_before")
        )
        deltas = totals.per_window(frame, [VISIT], LATENESS)["visit"]
        stored = pl.DataFrame(list(self.rows.values()), schema=VISIT.rows, orient="row")
        update = update_sessions(
            stored.filter(pl.col("state") != "final"),
            deltas,
            None if watermark is None else round(watermark * SECOND),
            LATENESS,
        )
        for start in update.gone["start"]:
            del self.rows[start]
        self.rows |= {row[1]: row for row in update.rows.iter_rows()}
        self.update: WindowUpdate = update
        return _seconds(update.results)

    def all(self) -> list[tuple]:
        return _seconds(pl.DataFrame(list(self.rows.values()), schema=VISIT.rows, orient="row"))


def _seconds(rows: pl.DataFrame) -> list[tuple]:
    picked = rows.sort("start", maintain_order=True).select("start", "end", "transactions", "revision", "state")
    return [(start / SECOND, end / SECOND, *rest) for start, end, *rest in picked.iter_rows()]


@pytest.mark.parametrize(
    ("times", "sessions"),
    [
        ((0, 9.999999), [(0, 19.999999, 2)]),
        ((0, 10), [(0, 20, 2)]),  # exactly the gap: the second sale is at the end of the first one's session
        ((0, 10.000001), [(0, 10, 1), (10.000001, 20.000001, 1)]),
        ((20, 0, 10), [(0, 30, 3)]),
        ((-15, -5, 5), [(-15, 15, 3)]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_sales_at_most_the_gap_apart_are_in_one_session(times: tuple, sessions: list, apart: bool) -> None:
    made = Sessions()
    for batch in [[t] for t in times] if apart else [times]:
        made.batch(*batch)
    assert [row[:3] for row in made.all()] == sessions


def test_a_late_sale_that_joins_two_published_sessions_revises_the_first_and_takes_the_other_back() -> None:
    made = Sessions()
    assert made.batch(0, 12, watermark=22) == [(0, 10, 1, 0, "fired"), (12, 22, 1, 0, "fired")]
    assert made.batch(7, watermark=22) == [(0, 22, 3, 1, "fired"), (12, 12, 0, 1, "merged")]
    assert outcomes(made.update.results) == {Outcome.REVISED: 1, Outcome.MERGED: 1}
    assert made.update.results.filter(pl.col("state") == "merged").select(totals.MEASURES).row(0) == (0,) * 7
    assert made.all() == [(0, 22, 3, 1, "fired")]


def test_an_earlier_sale_gives_the_session_another_start_and_the_published_one_is_taken_back() -> None:
    made = Sessions()
    made.batch(10, watermark=20)
    assert made.batch(5, watermark=20) == [(5, 20, 2, 0, "fired"), (10, 10, 0, 1, "merged")]


def test_a_session_that_was_not_published_disappears_without_a_result() -> None:
    made = Sessions()
    made.batch(0, 15, watermark=5)
    assert made.batch(8, watermark=5) == []
    assert made.all() == [(0, 25, 3, 0, "open")]


def test_a_published_session_that_grows_past_the_watermark_is_open_until_its_new_end() -> None:
    made = Sessions()
    made.batch(0, watermark=10)
    assert made.batch(8, watermark=10) == []
    assert made.all() == [(0, 18, 2, 1, "open")]
    assert made.batch(9, watermark=10) == []
    assert made.batch(watermark=19) == [(0, 19, 3, 1, "fired")]
    # One that is open again and disappears was published, too.
    made.batch(30, watermark=40)
    made.batch(38, watermark=40)
    assert made.batch(25, watermark=40) == [(30, 30, 0, 1, "merged")]


def test_a_session_is_final_when_no_sale_in_time_could_join_it_and_a_late_sale_is_one_of_its_own() -> None:
    made = Sessions()
    made.batch(0, watermark=10)
    # In time up to time + gap + lateness: at 24.999999, a sale at 10 is.
    assert made.batch(watermark=24.999999) == []
    assert made.batch(10, watermark=24.999999, before=24.999999) == [(0, 20, 2, 1, "fired")]
    assert made.batch(watermark=35) == [(0, 20, 2, 1, "final")]
    # A sale at 20 would touch it, and comes too late; one a microsecond later makes a session of its own.
    assert made.batch(20, watermark=35, before=35) == []
    assert made.batch(20.000001, watermark=35, before=35) == [(20.000001, 30.000001, 1, 0, "fired")]


def test_a_session_that_is_past_when_it_comes_fires_and_is_final_at_once() -> None:
    assert Sessions().batch(0, watermark=25) == [(0, 10, 1, 0, "fired"), (0, 10, 1, 0, "final")]
