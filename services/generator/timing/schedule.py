"""When records are due. Times are microseconds; the clock is an argument.

A slot is the moment of one record. Slot n of a steady schedule lies at first + n / rate, moved by bursts and silences
(traffic.py). Each tick takes all slots up to now, so coarse ticks keep the rate, too::

    slots   |  |  |  |  |  |  |  |  |  |
    ticks        *        *         *
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.generator.faults import Fault
from services.generator.records import Ints
from services.generator.timing import hours
from services.generator.timing.traffic import CALM, SPAN_US, Traffic

SECOND_US = 1_000_000
#: Live slots are never older than this: a longer stall (a broker away, a laptop asleep) is skipped.
PATIENCE_US = 2 * SECOND_US
#: Later than any clock; caps the slots of slow rates.
_NEVER_US = 2.0**61


@dataclass(frozen=True)
class Slots:
    """Moments of records, ascending.

    ``quiet``: per row, the partition that is silent at that moment, or -1. ``marks``: row → BURST where a burst begins
    with the row, SILENCE where a silence ended before it.
    """

    at_us: Ints
    quiet: Ints
    marks: dict[int, Fault] = field(default_factory=dict)

    @classmethod
    def of(cls, at_us: Sequence[int] | Ints) -> "Slots":
        """Slots at these moments, without bursts and silences."""
        return cls(np.asarray(at_us, np.int64), np.full(len(at_us), -1, np.int64))

    def __len__(self) -> int:
        return len(self.at_us)


class Steady:
    """``rate`` slots a second, the first at ``first_us``.

    ``live``: slots that a long stall missed are skipped. ``with_hours``: the rate is the mean of a week with busy and
    quiet hours (hours.py).
    """

    def __init__(
        self, first_us: int, rate: float, live: bool, traffic: Traffic = CALM, with_hours: bool = False
    ) -> None:
        self._first = first_us
        self._with_hours = with_hours
        self._interval = SECOND_US / rate
        self._taken = 0
        self._live = live
        self._traffic = traffic
        self._phase = 0

    def slot(self, n: int) -> int:
        """The time of slot ``n``, counted from 0."""
        return int(self._slots(n, n + 1)[0])

    def _slots(self, start: int, stop: int) -> Ints:
        offsets = np.minimum(np.arange(start, stop) * self._interval, _NEVER_US).astype(np.int64)
        if self._with_hours:
            offsets = np.maximum(hours.busy(self._steady(0) + offsets) - self._first, 0)
        return self._first + self._traffic.warped(offsets)

    def _steady(self, offset_us: int) -> int:
        return int(hours.steady(np.array([self._first + offset_us]))[0])

    def next_slot(self, now_us: int) -> int:
        """The first slot that has not been taken."""
        return self.slot(self._taken)

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        """Take the next slots up to ``last_us`` (inclusive), at most ``limit``."""
        # Traffic moves no slot out of its span, so only slots up to the end of this span can be due.
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
        """Move the next slot of a live schedule to now if it is long overdue."""
        if self._live and (behind := now_us - self.slot(self._taken)) > PATIENCE_US:
            self._first += behind


class AsFastAsPossible:
    """As :class:`Steady`, but every slot is now, and there are as many as are asked for."""

    def next_slot(self, now_us: int) -> int:
        return now_us

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        return Slots.of(np.full(limit, now_us, np.int64))

    def skip(self, now_us: int) -> None:
        pass


Schedule = Steady | AsFastAsPossible
