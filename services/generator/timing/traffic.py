"""Bursts and silences: how traffic moves the slots of a schedule within spans of half a minute. Pure.

Every span keeps its number of records, so each span keeps the rate::

    calm      |  |  |  |  |  |  |  |  |  |      burst     24 s at half the rate, then 6 s at three times the rate
    burst     |    |    |    |    |  ||||||     silence   10 s at three times the rate, then none
    silence   |||||||||                         silence of a partition: as calm, but its stores sell nothing after 10 s

Offsets are microseconds since the schedule's first slot.
"""

import random
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from services.generator.faults import Fault, Probabilities
from services.generator.records import Ints

SPAN_US = 30_000_000
#: A silence, of all or of one partition, lasts from here to the end of its span: longer than IDLE_TIMEOUT_S.
SILENT_FROM_US = 10_000_000
BURST_FROM_US = 24_000_000
_SLOW_US = BURST_FROM_US // 2


class Pattern(Enum):
    """The traffic of one span."""

    CALM = auto()
    BURST = auto()
    SILENCE = auto()
    PARTITION_SILENCE = auto()


class Span(NamedTuple):
    """One half minute. ``partition``: the silent partition of a PARTITION_SILENCE, else -1."""

    pattern: Pattern
    partition: int = -1


_CALM = Span(Pattern.CALM)


class Traffic:
    """The spans of one entity's schedule; the same arguments make the same spans."""

    def __init__(self, seed: object, faults: Probabilities, partitions: int = 0) -> None:
        """``partitions``: how many the topic has, if one of them alone may fall silent; else 0."""
        self._any = faults[Fault.BURST] > 0 or faults[Fault.SILENCE] > 0

        @lru_cache(maxsize=64)
        def span(number: int) -> Span:
            rng = random.Random(f"{seed}/{number}")
            burst, silence, of_one = rng.random(), rng.random(), rng.random()
            if silence < faults[Fault.SILENCE]:
                if partitions > 1 and of_one < 0.5:
                    return Span(Pattern.PARTITION_SILENCE, rng.randrange(partitions))
                return Span(Pattern.SILENCE)
            return Span(Pattern.BURST) if burst < faults[Fault.BURST] else _CALM

        self._span: Callable[[int], Span] = span

    def span(self, number: int) -> Span:
        """Span ``number``, counted from 0; negative numbers are calm."""
        return self._span(number) if self._any and number >= 0 else _CALM

    def warped(self, offsets: Ints) -> Ints:
        """Move the offsets of a calm schedule by its bursts and silences. Ascending offsets stay ascending."""
        if not self._any or not len(offsets):
            return offsets
        moved = offsets.copy()
        numbers = offsets // SPAN_US
        for number in np.unique(numbers).tolist():
            here = numbers == number
            within = offsets[here] - number * SPAN_US
            match self.span(number).pattern:
                case Pattern.BURST:
                    fast = BURST_FROM_US + (within - _SLOW_US) // 3
                    moved[here] = number * SPAN_US + np.where(within < _SLOW_US, 2 * within, fast)
                case Pattern.SILENCE:
                    moved[here] = number * SPAN_US + within // 3
        return moved

    def phases(self, offsets: Ints) -> tuple[Ints, Ints]:
        """For each warped offset: (the number of its phase, the partition that is silent then or -1)."""
        numbers, within = np.divmod(offsets, SPAN_US)
        quiet = np.full(len(offsets), -1, np.int64)
        if not self._any:
            return np.zeros(len(offsets), np.int64), quiet
        bursting = np.zeros(len(offsets), bool)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            pattern, partition = self.span(number)
            bursting |= here & (within >= BURST_FROM_US) & (pattern is Pattern.BURST)
            if pattern is Pattern.PARTITION_SILENCE:
                quiet[here & (within >= SILENT_FROM_US)] = partition
        return 2 * numbers + bursting, quiet

    def fault(self, phase: int) -> Fault | None:
        """The mark of a phase's first record: BURST if a burst begins, SILENCE if a silence of all partitions ended."""
        number, bursting = divmod(phase, 2)
        if bursting:
            return Fault.BURST
        return Fault.SILENCE if self.span(number - 1).pattern is Pattern.SILENCE else None


#: Traffic without bursts and silences.
CALM = Traffic(0, dict.fromkeys(Fault, 0.0))
