"""What a dimension has made, and how much of it is on its topic: the one thing that threads share.

A sale at time t draws among the ids that the dimensions had made by a boundary before t, and waits until each of them
is on its topic. So what it draws depends on times alone, never on when a broker acknowledged what::

    second   0         1         2         3
             |---------|---------|---------|
    boundary           ^ of all sales in [2, 3)
"""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from services.generator.timing.schedule import SECOND_US

#: How often sales look at the dimensions again.
CELL_US = SECOND_US


class Change(NamedTuple):
    """What sales need to know of a dimension's change; ``price_cents`` None where an id is given up."""

    at_us: int
    id: int
    price_cents: int | None = 0


def boundary(start_us: int, at_us: int) -> int:
    """Sales at ``at_us`` know of changes up to this time, inclusive."""
    return start_us + ((at_us - start_us) // CELL_US - 1) * CELL_US


def last_of_cell(start_us: int, at_us: int) -> int:
    """The last moment that has the boundary of ``at_us``."""
    return start_us + ((at_us - start_us) // CELL_US + 1) * CELL_US - 1


class Supply:
    """From one dimension's thread (``making``, ``made``, ``delivered``) to the sales thread (``ready``, ``take``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque()
        #: id → time of ids that are not known to be on the topic, oldest first
        self._undelivered: dict[int, int] = {}
        self._made_before = -(2**63)

    def change(self, change: Change, on_topic: bool) -> None:
        """Tell of a change, in order of time. ``on_topic``: false for a new id until :meth:`delivered`."""
        with self._lock:
            self._changes.append(change)
            if not on_topic:
                self._undelivered[change.id] = change.at_us

    def waits_for(self, numbers: Iterable[int]) -> bool:
        """Whether any of these ids is not known to be on the topic."""
        with self._lock:
            return any(number in self._undelivered for number in numbers)

    def delivered(self, number: int) -> None:
        """A record of this id is on the topic."""
        with self._lock:
            self._undelivered.pop(number, None)

    def made(self, before_us: int) -> None:
        """Everything before this time has been made."""
        self._made_before = before_us

    def ready(self, boundary_us: int) -> bool:
        """Whether all changes up to the boundary are made, and their new ids on the topic."""
        with self._lock:
            oldest = next(iter(self._undelivered.values()), None)
            return self._made_before > boundary_us and (oldest is None or oldest > boundary_us)

    def take(self, boundary_us: int) -> list[Change]:
        """The changes up to the boundary that were not taken before, in order."""
        taken: list[Change] = []
        with self._lock:
            while self._changes and self._changes[0].at_us <= boundary_us:
                taken.append(self._changes.popleft())
        return taken
