"""Pacing as pure arithmetic: rates are kept however irregular the ticks are."""

import random

import pytest

from services.generator.schedule import AsFastAsPossible, Steady

SECOND = 1_000_000


@pytest.mark.parametrize("rate", [0.5, 1, 7.3, 50, 5000, 20_000])
def test_a_rate_is_kept_over_a_minute_of_irregular_ticks(rate: float) -> None:
    rng, now, taken = random.Random(1), 0, 0
    schedule = Steady(0, rate, live=True)
    while now < 60 * SECOND:
        now = min(60 * SECOND, now + rng.randrange(1, 200_000))
        schedule.skip(now)
        while slots := schedule.take(now, now, 1000):
            assert slots[-1] <= now
            taken += len(slots)
    assert taken == pytest.approx(60 * rate, rel=0.02, abs=1)


def test_a_live_schedule_does_not_make_up_for_a_long_stall() -> None:
    schedule = Steady(0, 100, live=True)
    schedule.skip(60 * SECOND)
    assert len(schedule.take(60 * SECOND, 60 * SECOND, 10_000)) == 1


def test_a_simulated_schedule_has_the_same_slots_whatever_the_stalls() -> None:
    schedule = Steady(0, 100, live=False)
    schedule.skip(60 * SECOND)
    assert schedule.take(60 * SECOND, 60 * SECOND, 10_000) == [i * 10_000 for i in range(6001)]


def test_slots_never_repeat_or_go_back() -> None:
    schedule = Steady(5, 3_000, live=True)
    slots = [at for now in range(0, 3 * SECOND, 70_001) for at in schedule.take(now, now, 50)]
    assert slots == sorted(set(slots))


def test_as_fast_as_possible_is_now_as_often_as_asked() -> None:
    assert AsFastAsPossible().take(17, 99, 3) == [17, 17, 17]
