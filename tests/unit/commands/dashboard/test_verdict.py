"""The verdict: what is not good, how bad, and since when; and the trends that it is judged by."""

from collections.abc import Callable
from typing import Any

import pytest

from commands.dashboard.trends import Trends
from commands.dashboard.verdict import Level, Verdict, judge

READY = {"state": "ready", "why": ""}
WELL: dict[str, Any] = {"problems": {}, "services": [{"name": "cleaner", **READY}], "lag": {"cleaner": 0}}


def trends(seconds: int, figures: Callable[[int], dict[str, float | None]]) -> Trends:
    """A sample each two seconds."""
    made = Trends()
    for at in range(0, seconds + 1, 2):
        made.add(float(at), figures(at))
    return made


def levels(made: Trends, now: dict[str, Any] = WELL) -> dict[str, Level]:
    return {f.about: f.level for f in judge(now, made)}


def test_without_anything_wrong_all_is_well_since_the_first_look() -> None:
    verdict = Verdict()
    assert verdict.update(judge(WELL, Trends()), 5.0) == {"level": "good", "since": 5.0, "findings": []}
    assert verdict.update([], 9.0)["since"] == 5.0


@pytest.mark.parametrize(
    ("state", "level"), [("down", Level.BAD), ("starting", Level.WORRYING), ("degraded", Level.WORRYING)]
)
def test_a_service_is_named_with_its_own_words_and_since_when(state: str, level: Level) -> None:
    now = {**WELL, "services": [{"name": "scd_merger", "state": state, "why": "x says: not ready: postgres."}]}
    verdict = Verdict()
    verdict.update([], 1.0)
    for at in (3.0, 8.0):
        shown = verdict.update(judge(now, Trends()), at)
    assert (shown["level"], shown["since"]) == (level, 3.0)
    (row,) = shown["findings"]
    assert row["what"].startswith("SCD merger ")
    assert (row["why"], row["since"]) == ("x says: not ready: postgres.", 3.0)
    assert verdict.update([], 9.0) == {"level": "good", "since": 9.0, "findings": []}
    assert verdict.update(judge(now, Trends()), 12.0)["findings"][0]["since"] == 12.0


def test_the_worst_comes_first_and_a_part_that_cannot_be_read_is_bad() -> None:
    now = {
        **WELL,
        "problems": {"warehouse": "Postgres is away."},
        "services": [{"name": "cleaner", "state": "starting", "why": ""}],
    }
    shown = Verdict().update(judge(now, Trends()), 1.0)
    assert [(f["what"], f["level"]) for f in shown["findings"]] == [
        ("Postgres is away.", "bad"),
        ("Cleaner is not ready", "worrying"),
    ]


def test_what_several_parts_say_of_one_server_is_said_once_and_since_the_first_of_them() -> None:
    verdict = Verdict()
    verdict.update(judge({**WELL, "problems": {"topics": "Kafka is away."}}, Trends()), 1.0)
    for problems in (
        {"letters": "Kafka is away.", "topics": "Kafka is away."},
        dict.fromkeys(("a", "topics"), "Kafka is away."),
    ):
        shown = verdict.update(judge({**WELL, "problems": problems}, Trends()), 3.0)
        assert [(f["what"], f["since"]) for f in shown["findings"]] == [("Kafka is away.", 1.0)]


@pytest.mark.parametrize(
    ("lag", "level"), [(0, None), (999, None), (1000, Level.WORRYING), (5999, Level.WORRYING), (6000, Level.BAD)]
)
def test_lag_is_judged_by_the_seconds_of_work_that_it_is(lag: int, level: Level | None) -> None:
    made = trends(20, lambda _: {"lag.cleaner": lag, "rate.raw": 100.0})
    assert levels(made).get("lag cleaner") is level


def test_lag_for_a_moment_is_no_finding() -> None:
    assert levels(trends(20, lambda at: {"lag.cleaner": 0 if at == 14 else 9999, "rate.raw": 100.0})) == {}
    assert levels(trends(6, lambda _: {"lag.cleaner": 9999, "rate.raw": 100.0})) == {}, "not known for long enough"


@pytest.mark.parametrize(
    ("still_s", "level"), [(20, None), (30, Level.WORRYING), (88, Level.WORRYING), (90, Level.BAD)]
)
def test_a_watermark_that_stands_still_while_sales_come_is_a_finding(still_s: int, level: Level | None) -> None:
    def figures(at: int) -> dict[str, float | None]:
        return {"watermark": float(min(at, 200 - still_s)), "rate.clean_sales": 50.0}

    assert levels(trends(200, figures)).get("watermark") is level
    assert levels(trends(200, lambda at: {**figures(at), "rate.clean_sales": 0.0})) == {}, "no sales, no wait"


@pytest.mark.parametrize(("share", "level"), [(0.09, None), (0.11, Level.WORRYING), (0.51, Level.BAD)])
def test_rejects_are_a_share_of_the_last_minute(share: float, level: Level | None) -> None:
    made = trends(200, lambda at: {"rate.raw": 100.0, "rate.dlq": 100 * share if at > 130 else 0.0})
    assert levels(made).get("rejects") is level


def test_trends_are_bounded_and_come_as_columns() -> None:
    made = Trends(kept=3)
    for at in range(5):
        made.add(float(at), {"a": at, "b": None if at < 4 else 7.0})
    assert made.columns() == {"at": [2.0, 3.0, 4.0], "series": {"a": [2, 3, 4], "b": [None, None, 7.0]}}
    assert made.last == {"at": 4.0, "figures": {"a": 4, "b": 7.0}}
    made.add(5.0, {f"name {i}": 1.0 for i in range(1000)})
    assert len(made.columns()["series"]) < 100


def test_a_rate_is_summed_over_time() -> None:
    made = trends(60, lambda _: {"rate.raw": 10.0})
    assert made.sum("rate.raw", 20.0) == 200
    assert made.mean("rate.raw", 20.0) == 10
    assert (made.sum("nothing", 20.0), made.mean("nothing", 20.0), made.still_s("nothing")) == (0, None, None)
