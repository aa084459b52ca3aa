"""Bursts and silences move records within their half minute; none is lost, and each half minute keeps the rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.faults import Fault
from services.generator.timing.schedule import Steady
from services.generator.timing.traffic import BURST_FROM_US, SILENT_FROM_US, SPAN_US, Pattern, Traffic

SECOND = 1_000_000
NONE = dict.fromkeys(Fault, 0.0)


def traffic(seed: int, burst: float = 0.3, silence: float = 0.3, partitions: int = 4) -> Traffic:
    return Traffic(seed, {**NONE, Fault.BURST: burst, Fault.SILENCE: silence}, partitions)


@given(seed=st.integers(0, 1000), interval=st.integers(40, 3_000_000))
def test_moved_slots_stay_in_order_and_in_their_window(seed: int, interval: int) -> None:
    calm = np.arange(0, min(6 * SPAN_US, 5000 * interval), interval)
    moved = traffic(seed).warped(calm)
    assert (np.diff(moved) >= 0).all()
    assert (moved // SPAN_US == calm // SPAN_US).all()


@pytest.mark.parametrize("rate", [1, 50, 5000, 20_000])
def test_a_minute_with_bursts_has_as_many_records_as_one_without(rate: float) -> None:
    for seed in range(5):
        schedule = Steady(0, rate, live=True, traffic=traffic(seed))
        taken, now = 0, 0
        while now < 60 * SECOND:
            now = min(60 * SECOND - 1, now + 70_001) if now < 60 * SECOND - 1 else 60 * SECOND
            while len(slots := schedule.take(now, min(now, 60 * SECOND - 1), 8192)):
                taken += len(slots)
        assert taken == 60 * rate


def test_a_burst_is_three_times_the_rate_and_is_marked_where_it_begins() -> None:
    schedule = Steady(0, 100, live=False, traffic=traffic(1, burst=1, silence=0))
    slots = schedule.take(SPAN_US - 1, SPAN_US - 1, 10_000)
    per_second = np.bincount(slots.at_us // SECOND, minlength=30)
    assert per_second[:24] == pytest.approx([50] * 24, abs=1)
    assert per_second[24:] == pytest.approx([300] * 6, abs=1)
    ((row, fault),) = slots.marks.items()
    assert fault is Fault.BURST
    assert slots.at_us[row - 1] < BURST_FROM_US <= slots.at_us[row]


def test_nothing_comes_in_a_silence_and_the_first_record_after_it_is_marked() -> None:
    silent = traffic(1, burst=0, silence=1, partitions=0)
    slots = Steady(0, 100, live=False, traffic=silent).take(2 * SPAN_US - 1, 2 * SPAN_US - 1, 10_000)
    assert ((slots.at_us % SPAN_US) < SILENT_FROM_US + SECOND).all()
    assert slots.marks == {3000: Fault.SILENCE}


def test_a_mark_comes_once_however_the_slots_are_taken() -> None:
    whole = Steady(0, 100, live=False, traffic=traffic(3)).take(10 * SPAN_US, 10 * SPAN_US, 10**6)
    parts = Steady(0, 100, live=False, traffic=traffic(3))
    marks, taken = {}, 0
    for now in range(0, 10 * SPAN_US + 1, 250_000):
        slots = parts.take(now, now, 10**6)
        marks.update({taken + row: fault for row, fault in slots.marks.items()})
        taken += len(slots)
    assert marks == whole.marks
    assert set(marks.values()) == {Fault.BURST, Fault.SILENCE}


def test_one_partition_may_be_silent_alone() -> None:
    some = traffic(5, burst=0, silence=1)
    spans = [some.span(i) for i in range(50)]
    assert {s.pattern for s in spans} == {Pattern.SILENCE, Pattern.PARTITION_SILENCE}
    assert {s.partition for s in spans if s.pattern is Pattern.PARTITION_SILENCE} == {0, 1, 2, 3}
    number = next(i for i, s in enumerate(spans) if s.pattern is Pattern.PARTITION_SILENCE)
    _, quiet = some.phases(number * SPAN_US + np.array([SILENT_FROM_US - 1, SILENT_FROM_US, SPAN_US - 1]))
    assert quiet.tolist() == [-1, spans[number].partition, spans[number].partition]
