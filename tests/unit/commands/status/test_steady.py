"""Steady rates give steady figures, whenever the cleaner commits and whatever it repeats."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from commands.status.status import Status
from commands.status.steady import LAG_OVER_S, Steady
from retail_stream.topics import Group

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
EMPTY = Status(
    produced=0, cleaned=0, rejected=0, late=0, versions=0, facts=0, windows={}, outbox=0, watermark=None,
    lag=dict.fromkeys(Group, 0), at=AT,
)  # fmt: skip


class Stream:
    """Records at a steady rate, in transactions of a tenth of a second; a commit each 1 to 3 s; markers in the lag."""

    def __init__(self, per_s: float, late: range = range(0)) -> None:
        """``late``: seconds in which no commit comes."""
        self.per_s, self.late = per_s, late
        self.random = random.Random(per_s)
        self.published = self.cleaned = self.committed = 0
        self.commits_at = 0.0
        self.repeats = 0

    def at(self, second: float) -> Status:
        """What `look` reads then: the cleaner is one batch behind, its commit further behind."""
        self.published = int(self.per_s * round(second, 1))
        self.cleaned = max(0, int(self.per_s * (round(second, 1) - self.random.choice([0.1, 0.2]))))
        if second >= self.commits_at and int(second) not in self.late:
            self.committed, self.commits_at = self.cleaned, second + self.random.uniform(1, 3)
        markers = int(10 * 16 * 0.25)
        lag = self.published - self.committed + markers
        done = self.cleaned + self.repeats
        return replace(
            EMPTY,
            produced=done + lag,
            cleaned=done,
            at=AT + timedelta(seconds=second),
            lag={**EMPTY.lag, Group.CLEANER: lag},
        )


@pytest.mark.parametrize("per_s", [65, 1000, 20_000])
def test_a_steady_rate_is_shown_steadily(per_s: int) -> None:
    stream = Stream(per_s)
    steady = Steady(lambda: stream.published)
    shown, as_read, lags = [], [], []
    last = None
    for step in range(120):
        # A reading takes longer now and then.
        now = stream.at(step + stream.random.uniform(0, 0.4))
        if step == 60:
            stream.repeats = 5 * per_s
        figures, before = steady.next(now)
        if step > 10:
            shown.append(figures.rates(before)["produced"])
            as_read.append(now.rates(last)["produced"])  # type: ignore[arg-type]
            lags.append(figures.lag[Group.CLEANER])
            assert figures.produced >= before.produced
        last = now
    print(
        f"{per_s}/s: shown {min(shown):,.0f} to {max(shown):,.0f}; as read {min(as_read):,.0f} to {max(as_read):,.0f}"
    )
    print(f"lag from {min(lags):,} to {max(lags):,}")
    assert max(shown) < 1.05 * per_s
    assert min(shown) > 0.95 * per_s
    # The test can tell: the figures as they were read swing.
    assert max(as_read) > 1.5 * per_s


@pytest.mark.parametrize("per_s", [65, 1000, 20_000])
def test_a_commit_that_comes_twelve_seconds_late_moves_no_rate(per_s: int) -> None:
    stream = Stream(per_s, late=range(30, 42))
    steady = Steady(lambda: stream.published)
    shown: dict[int, float] = {}
    as_read: dict[int, float] = {}
    last = None
    for second in range(60):
        now = stream.at(second)
        figures, before = steady.next(now)
        shown[second] = figures.rates(before)["produced"]
        as_read[second] = now.rates(last)["produced"] if last else per_s
        last = now
    late = [shown[second] for second in range(30, 55)]
    print(f"{per_s}/s: shown {min(late):,.0f} to {max(late):,.0f}; as read {min(as_read.values()):,.0f}")
    assert max(late) < 1.05 * per_s
    assert min(late) > 0.95 * per_s
    # The test can tell: what is cleaned plus the lag is counted twice until the commit comes, and then falls.
    assert min(as_read[second] for second in range(42, 45)) < 0


def test_a_moment_of_lag_is_not_shown_and_one_that_stays_is() -> None:
    steady = Steady()
    for second in range(20):
        lag = 533 if second == 8 or second >= 12 else 5
        now = replace(EMPTY, at=AT + timedelta(seconds=second), lag={**EMPTY.lag, Group.AGGREGATOR: lag})
        shown, _ = steady.next(now)
        assert shown.lag[Group.AGGREGATOR] == (533 if second >= 12 + LAG_OVER_S else 5)


def test_the_total_is_exact_once_nothing_is_in_flight() -> None:
    counted = 0
    steady = Steady(lambda: counted)
    behind = replace(EMPTY, produced=130, cleaned=100, lag={**EMPTY.lag, Group.CLEANER: 30})
    assert steady.next(behind)[0].produced == 130
    counted = 50
    # Eight of the thirty offsets were markers of transactions.
    done = replace(EMPTY, produced=172, cleaned=172, at=AT + timedelta(seconds=1))
    shown, before = steady.next(done)
    assert shown.produced == 172
    assert shown.rates(before)["produced"] == 50
