"""Bursts and silences: when the records of a schedule come, window by window of half a minute. Pure.

Whatever happens in a window, as many records come in it as ever, so a rate is kept over each of them::

    calm      |  |  |  |  |  |  |  |  |  |      burst     six seconds at three times the rate, the others at half of it
    burst     |    |    |    |    |  ||||||     silence   ten seconds at three times the rate, then none
    silence   |||||||||                         silence of a partition: as calm, but its stores sell nothing then

Offsets are microseconds since the schedule's first slot.
"""

import random
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from services.generator.publishing.faults import Fault, Probabilities
from services.generator.retailer.arrays import Ints

SPAN_US = 30_000_000
#: A silence, of all or of one partition, lasts from here to the end of its window: longer than IDLE_TIMEOUT_S.
SILENT_FROM_US = 10_000_000
BURST_FROM_US = 24_000_000
_SLOW_US = BURST_FROM_US // 2


class Kind(Enum):
    """What happens in a window."""

    CALM = auto()
    BURST = auto()
    SILENCE = auto()
    PARTITION_SILENCE = auto()


class Window(NamedTuple):
    """``partition``: the silent one, where it is a single one."""

    kind: Kind
    partition: int = -1


_CALM = Window(Kind.CALM)


class Traffic:
    """The windows of one entity's schedule; the same arguments make the same windows."""

    def __init__(self, seed: object, faults: Probabilities, partitions: int = 0) -> None:
        """``partitions``: of which one may fall silent; 0 where only all of them can."""
        self._any = faults[Fault.BURST] > 0 or faults[Fault.SILENCE] > 0

        @lru_cache(maxsize=64)
        def window(number: int) -> Window:
            rng = random.Random(f"{seed}/{number}")
            burst, silence, of_one = rng.random(), rng.random(), rng.random()
            if silence < faults[Fault.SILENCE]:
                if partitions > 1 and of_one < 0.5:
                    return Window(Kind.PARTITION_SILENCE, rng.randrange(partitions))
                return Window(Kind.SILENCE)
            return Window(Kind.BURST) if burst < faults[Fault.BURST] else _CALM

        self._window: Callable[[int], Window] = window

    def window(self, number: int) -> Window:
        """Window ``number`` from 0; there is none before."""
        return self._window(number) if self._any and number >= 0 else _CALM

    def warped(self, offsets: Ints) -> Ints:
        """When slots come that a calm schedule has at these offsets; ascending ones stay so."""
        if not self._any or not len(offsets):
            return offsets
        moved = offsets.copy()
        numbers = offsets // SPAN_US
        for number in np.unique(numbers).tolist():
            here = numbers == number
            within = offsets[here] - number * SPAN_US
            match self.window(number).kind:
                case Kind.BURST:
                    fast = BURST_FROM_US + (within - _SLOW_US) // 3
                    moved[here] = number * SPAN_US + np.where(within < _SLOW_US, 2 * within, fast)
                case Kind.SILENCE:
                    moved[here] = number * SPAN_US + within // 3
        return moved

    def phases(self, offsets: Ints) -> tuple[Ints, Ints]:
        """For warped offsets: (a number of the phase, the partition that is silent then or -1)."""
        numbers, within = np.divmod(offsets, SPAN_US)
        quiet = np.full(len(offsets), -1, np.int64)
        if not self._any:
            return np.zeros(len(offsets), np.int64), quiet
        bursting = np.zeros(len(offsets), bool)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            kind, partition = self.window(number)
            bursting |= here & (within >= BURST_FROM_US) & (kind is Kind.BURST)
            if kind is Kind.PARTITION_SILENCE:
                quiet[here & (within >= SILENT_FROM_US)] = partition
        return 2 * numbers + bursting, quiet

    def fault(self, phase: int) -> Fault | None:
        """What the first record of a phase shows: that a burst begins, or that a silence of all is over."""
        number, bursting = divmod(phase, 2)
        if bursting:
            return Fault.BURST
        return Fault.SILENCE if self.window(number - 1).kind is Kind.SILENCE else None


def calm() -> Traffic:
    """No bursts and no silences."""
    return Traffic(0, dict.fromkeys(Fault, 0.0))
