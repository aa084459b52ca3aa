"""When records are due. Times are microseconds; the clock is an argument.

A slot is the moment of one record. Slot n of a steady schedule lies at first + n / rate, moved by bursts and silences
(traffic.py), so that a rate is kept however coarse the ticks are in which the due slots are taken::

    slots   |  |  |  |  |  |  |  |  |  |
    ticks        *        *         *        each takes all slots up to now
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.generator.publishing.faults import Fault
from services.generator.retailer.arrays import Ints
from services.generator.timing import hours
from services.generator.timing.traffic import SPAN_US, Traffic, calm

SECOND_US = 1_000_000
#: A stall longer than this (a broker away, a laptop asleep) is not made up for: live slots are never that old.
PATIENCE_US = 2 * SECOND_US
#: Later than every clock; a slow rate comes there after many slots.
_NEVER_US = 2.0**61


@dataclass(frozen=True)
class Slots:
    """Moments of records, ascending.

    ``marks``: row → the burst that begins, or the silence that is over, with it. ``quiet``: per row, the partition that
    is silent then, or -1.
    """

    at_us: Ints
    quiet: Ints
    marks: dict[int, Fault] = field(default_factory=dict)

    @classmethod
    def of(cls, at_us: Sequence[int] | Ints) -> "Slots":
        """Slots without bursts and silences."""
        return cls(np.asarray(at_us, np.int64), np.full(len(at_us), -1, np.int64))

    def __len__(self) -> int:
        return len(self.at_us)


class Schedule(Protocol):
    """A source of slots that never go back."""

    def next_slot(self, now_us: int) -> int:
        """The first slot that was not taken yet; every slot before it was."""

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        """Take the next slots up to and including ``last_us``, at most ``limit``."""

    def skip(self, now_us: int) -> None:
        """After a long stall, go on from now."""


class Steady:
    """``rate`` slots a second, the first at ``first_us``; ``live`` ones skip what a long stall missed.

    ``with_hours``: the rate is that of a whole week, with busy and quiet hours (hours.py).
    """

    def __init__(
        self, first_us: int, rate: float, live: bool, traffic: Traffic | None = None, with_hours: bool = False
    ) -> None:
        self._first = first_us
        self._with_hours = with_hours
        self._interval = SECOND_US / rate
        self._taken = 0
        self._live = live
        self._traffic = traffic or calm()
        self._phase = 0

    def slot(self, n: int) -> int:
        """Time of slot n, from 0."""
        return int(self._slots(n, n + 1)[0])

    def _slots(self, start: int, stop: int) -> Ints:
        offsets = np.minimum(np.arange(start, stop) * self._interval, _NEVER_US).astype(np.int64)
        if self._with_hours:
            offsets = np.maximum(hours.busy(self._steady(0) + offsets) - self._first, 0)
        return self._first + self._traffic.warped(offsets)

    def _steady(self, offset_us: int) -> int:
        return int(hours.steady(np.array([self._first + offset_us]))[0])

    def next_slot(self, now_us: int) -> int:
        return self.slot(self._taken)

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        # No slot leaves its window, so those that may be due are not many more than those that are.
        ahead = ((last_us - self._first) // SPAN_US + 1) * SPAN_US
        if self._with_hours:
            ahead = self._steady(ahead) - self._steady(0)
        stop = min(self._taken + limit, max(self._taken, int(ahead / self._interval) + 2))
        at_us = self._slots(self._taken, stop)
        at_us = at_us[: np.searchsorted(at_us, last_us, "right")]
        self._taken += len(at_us)
        phases, quiet = self._traffic.phases(at_us - self._first)
        marks: dict[int, Fault] = {}
        for row in np.flatnonzero(np.diff(phases, prepend=self._phase)).tolist():
            if fault := self._traffic.fault(int(phases[row])):
                marks[row] = fault
        if len(phases):
            self._phase = int(phases[-1])
        return Slots(at_us, quiet, marks)

    def skip(self, now_us: int) -> None:
        if self._live and (behind := now_us - self.slot(self._taken)) > PATIENCE_US:
            self._first += behind


class AsFastAsPossible:
    """As many slots as are asked for, all of them now."""

    def next_slot(self, now_us: int) -> int:
        return now_us

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        return Slots.of(np.full(limit, now_us, np.int64))

    def skip(self, now_us: int) -> None:
        pass
