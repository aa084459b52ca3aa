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
from services.generator.timing.baskets import Baskets, first_lines
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
    with the row, SILENCE where a silence ended before it. ``basket``: per row, the row of the first line of its basket.
    """

    at_us: Ints
    quiet: Ints
    basket: Ints
    marks: dict[int, Fault] = field(default_factory=dict)

    @classmethod
    def of(cls, at_us: Sequence[int] | Ints, basket: Ints | None = None) -> "Slots":
        """Slots at these moments, without bursts and silences; by default each has a basket of its own."""
        size = len(at_us)
        return cls(
            np.asarray(at_us, np.int64), np.full(size, -1, np.int64), np.arange(size) if basket is None else basket
        )

    def __len__(self) -> int:
        return len(self.at_us)


class Steady:
    """``rate`` slots a second, the first at ``first_us``.

    ``live``: slots that a long stall missed are skipped. ``with_hours``: the rate is the mean of a week with busy and
    quiet hours (hours.py). ``baskets``: slots of one basket are at the moment of its last one.
    """

    def __init__(
        self,
        first_us: int,
        rate: float,
        live: bool,
        traffic: Traffic = CALM,
        with_hours: bool = False,
        baskets: Baskets | None = None,
    ) -> None:
        self._first = first_us
        self._with_hours = with_hours
        self._interval = SECOND_US / rate
        self._taken = 0
        self._live = live
        self._traffic = traffic
        self._baskets = baskets
        self._phase = 0

    def slot(self, n: int) -> int:
        """The time of slot ``n``, counted from 0."""
        return int(self._slots(self._ends(n, n + 1))[0])

    def _ends(self, start: int, stop: int) -> Ints:
        return np.arange(start, stop) if self._baskets is None else self._baskets.ends(start, stop)

    def _slots(self, ends: Ints) -> Ints:
        offsets = np.minimum(ends * self._interval, _NEVER_US).astype(np.int64)
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
        ends = self._ends(self._taken, stop)
        at_us = self._slots(ends)
        at_us = at_us[: np.searchsorted(at_us, last_us, "right")]
        self._taken += len(at_us)
        phases, quiet = self._traffic.phases(at_us - self._first)
        marks: dict[int, Fault] = {}
        for row in np.flatnonzero(np.diff(phases, prepend=self._phase)).tolist():
            if fault := self._traffic.fault(int(phases[row])):
                marks[row] = fault
        if len(phases):
            self._phase = int(phases[-1])
        return Slots(at_us, quiet, first_lines(ends[: len(at_us)]), marks)

    def skip(self, now_us: int) -> None:
        """Move the next slot of a live schedule to now if it is long overdue."""
        if self._live and (behind := now_us - self.slot(self._taken)) > PATIENCE_US:
            self._first += behind


class AsFastAsPossible:
    """As :class:`Steady`, but slots are now, and there are as many as are asked for: a basket each microsecond."""

    def __init__(self, baskets: Baskets | None = None) -> None:
        self._baskets = baskets
        self._taken = 0
        self._last_us = 0

    def next_slot(self, now_us: int) -> int:
        return now_us

    def take(self, now_us: int, last_us: int, limit: int) -> Slots:
        start, self._taken = self._taken, self._taken + limit
        ends = np.arange(start, start + limit) if self._baskets is None else self._baskets.ends(start, start + limit)
        firsts = first_lines(ends)
        number = np.cumsum(firsts == np.arange(limit))
        at_us = max(self._last_us, now_us - int(number[-1])) + number if limit else number
        self._last_us = int(at_us[-1]) if limit else self._last_us
        return Slots.of(at_us, firsts)

    def skip(self, now_us: int) -> None:
        pass


Schedule = Steady | AsFastAsPossible
