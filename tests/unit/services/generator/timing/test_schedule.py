"""Pacing as pure arithmetic: rates are kept however irregular the ticks are."""

import random

import numpy as np
import pytest

from services.generator.timing.baskets import Baskets
from services.generator.timing.schedule import AsFastAsPossible, Steady

SECOND = 1_000_000


@pytest.mark.parametrize("rate", [0.5, 1, 7.3, 50, 5000, 20_000])
def test_a_rate_is_kept_over_a_minute_of_irregular_ticks(rate: float) -> None:
    rng, now, taken = random.Random(1), 0, 0
    schedule = Steady(0, rate, live=True)
    while now < 60 * SECOND:
        now = min(60 * SECOND, now + rng.randrange(1, 200_000))
        schedule.skip(now)
        while len(slots := schedule.take(now, now, 1000)):
            assert slots.at_us[-1] <= now
            taken += len(slots)
    assert taken == pytest.approx(60 * rate, rel=0.02, abs=1)


def test_a_live_schedule_does_not_make_up_for_a_long_stall() -> None:
    schedule = Steady(0, 100, live=True)
    schedule.skip(60 * SECOND)
    assert len(schedule.take(60 * SECOND, 60 * SECOND, 10_000)) == 1


def test_a_simulated_schedule_has_the_same_slots_whatever_the_stalls() -> None:
    schedule = Steady(0, 100, live=False)
    schedule.skip(60 * SECOND)
    assert schedule.take(60 * SECOND, 60 * SECOND, 10_000).at_us.tolist() == [i * 10_000 for i in range(6001)]


def test_slots_never_repeat_or_go_back() -> None:
    schedule = Steady(5, 3_000, live=True)
    slots = [at for now in range(0, 3 * SECOND, 70_001) for at in schedule.take(now, now, 50).at_us.tolist()]
    assert slots == sorted(set(slots))


def test_as_fast_as_possible_is_now_as_often_as_asked_and_no_moment_is_used_twice() -> None:
    schedule = AsFastAsPossible()
    assert schedule.take(17, 99, 3).at_us.tolist() == [15, 16, 17]
    assert schedule.take(18, 99, 3).at_us.tolist() == [18, 19, 20]
    assert schedule.take(99, 99, 1).at_us.tolist() == [99]


def test_a_week_with_busy_and_quiet_hours_has_as_many_slots_as_a_steady_one() -> None:
    monday = 1_772_409_600 * SECOND  # 2026-03-02T00:00:00Z
    schedule = Steady(monday, 1, live=False, with_hours=True)
    end = monday + 7 * 86_400 * SECOND - 1
    at = np.concatenate([schedule.take(end, end, 50_000).at_us for _ in range(15)])
    assert len(at) == pytest.approx(7 * 86_400, abs=2)
    assert at[0] >= monday
    assert (np.diff(at) >= 0).all()
    by_hour = np.bincount(at // (3600 * SECOND) % 24, minlength=24)
    assert by_hour[18] > 30 * by_hour[3]
    by_day = np.bincount((at - monday) // (86_400 * SECOND), minlength=7)
    assert by_day.argmax() == 5


def test_slots_of_busy_hours_are_the_same_however_they_are_taken() -> None:
    start = 1_772_352_000 * SECOND
    whole = Steady(start, 2, live=False, with_hours=True).take(start + 7200 * SECOND, start + 7200 * SECOND, 10**6)
    parts = Steady(start, 2, live=False, with_hours=True)
    taken = [parts.take(now, now, 10**6).at_us for now in range(start, start + 7200 * SECOND + 1, 900 * SECOND)]
    assert np.concatenate(taken).tolist() == whole.at_us.tolist()


@pytest.mark.parametrize("schedule", [Steady(0, 50, live=False, baskets=Baskets(1)), AsFastAsPossible(Baskets(1))])
def test_lines_of_a_basket_have_one_moment_and_the_rate_counts_lines(schedule: Steady | AsFastAsPossible) -> None:
    slots = schedule.take(600 * SECOND, 600 * SECOND, 30_000)
    assert len(slots) == pytest.approx(30_000, abs=6)
    assert (slots.at_us == slots.at_us[slots.basket]).all()
    sizes = np.bincount(np.unique(slots.basket, return_counts=True)[1])
    assert len(sizes) == 7
    assert len(slots) / sizes.sum() == pytest.approx(2.02, abs=0.05)
    # Each basket has a moment of its own.
    assert len(np.unique(slots.at_us)) == sizes.sum()
