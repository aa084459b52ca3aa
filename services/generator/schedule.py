"""When records are due. Times are microseconds; the clock is an argument.

A slot is the moment of one record. Slot n of a steady schedule lies at first + n / rate, so that a rate is kept
however coarse the ticks are in which the due slots are taken::

    slots   |  |  |  |  |  |  |  |  |  |
    ticks        *        *         *        each takes all slots up to now
"""

from typing import Protocol

SECOND_US = 1_000_000
#: A stall longer than this (a broker away, a laptop asleep) is not made up for: live slots are never that old.
PATIENCE_US = 2 * SECOND_US


class Schedule(Protocol):
    """A source of slots that never go back."""

    def next_slot(self, now_us: int) -> int:
        """The first slot that was not taken yet; every slot before it was."""

    def take(self, now_us: int, last_us: int, limit: int) -> list[int]:
        """Take the next slots up to and including ``last_us``, at most ``limit``."""

    def skip(self, now_us: int) -> None:
        """After a long stall, go on from now."""


class Steady:
    """``rate`` slots a second, the first at ``first_us``; ``live`` ones skip what a long stall missed."""

    def __init__(self, first_us: int, rate: float, live: bool) -> None:
        self._first = first_us
        self._interval = SECOND_US / rate
        self._taken = 0
        self._live = live

    def slot(self, n: int) -> int:
        """Time of slot n, from 0."""
        return self._first + int(n * self._interval)

    def next_slot(self, now_us: int) -> int:
        return self.slot(self._taken)

    def take(self, now_us: int, last_us: int, limit: int) -> list[int]:
        slots: list[int] = []
        while len(slots) < limit and (at := self.slot(self._taken)) <= last_us:
            slots.append(at)
            self._taken += 1
        return slots

    def skip(self, now_us: int) -> None:
        if self._live and (behind := now_us - self.slot(self._taken)) > PATIENCE_US:
            self._first += behind


class AsFastAsPossible:
    """As many slots as are asked for, all of them now."""

    def next_slot(self, now_us: int) -> int:
        return now_us

    def take(self, now_us: int, last_us: int, limit: int) -> list[int]:
        return [now_us] * limit

    def skip(self, now_us: int) -> None:
        pass
