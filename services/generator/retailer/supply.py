"""What a dimension has made, and how much of it is on its topic: the only state that the threads share.

A sale at time t chooses among the ids that the dimensions had made by a boundary before t, and waits until all of them
are on their topics. So its choice depends on times only, not on when a broker acknowledged a record::

    second   0         1         2         3
             |---------|---------|---------|
    boundary           ^ of all sales in [2, 3)
"""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from services.generator.timing.schedule import SECOND_US

#: How long sales use one boundary.
CELL_US = SECOND_US


class Availability(NamedTuple):
    """From ``at_us`` on, sales may choose ``id``, at ``price_cents``. None withdraws the id."""

    at_us: int
    id: int
    price_cents: int | None = 0


def boundary(start_us: int, at_us: int) -> int:
    """The time up to which (inclusive) sales at ``at_us`` know the dimensions."""
    return start_us + ((at_us - start_us) // CELL_US - 1) * CELL_US


def last_of_cell(start_us: int, at_us: int) -> int:
    """The last moment that has the same boundary as ``at_us``."""
    return start_us + ((at_us - start_us) // CELL_US + 1) * CELL_US - 1


class Supply:
    """From one dimension's thread (``add``, ``made``, ``delivered``) to the sales thread (``ready``, ``take``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._availabilities: deque[Availability] = deque()
        #: id → time, of new ids that are not on the topic yet, oldest first
        self._undelivered: dict[int, int] = {}
        self._made_before = -(2**63)

    def add(self, availability: Availability, on_topic: bool) -> None:
        """Add an availability, in order of time. ``on_topic``: False for a new id, until :meth:`delivered`."""
        with self._lock:
            self._availabilities.append(availability)
            if not on_topic:
                self._undelivered[availability.id] = availability.at_us

    def waits_for(self, ids: Iterable[int]) -> bool:
        """Whether any of these ids is new and not on the topic yet."""
        with self._lock:
            return any(i in self._undelivered for i in ids)

    def delivered(self, ids: Iterable[int]) -> None:
        """Note that records of these ids are on the topic."""
        with self._lock:
            for i in ids:
                self._undelivered.pop(i, None)

    def made(self, before_us: int) -> None:
        """Note that every change before this time (exclusive) has been made."""
        self._made_before = before_us

    def ready(self, boundary_us: int) -> bool:
        """Whether all changes up to the boundary (inclusive) are made and their new ids are on the topic."""
        with self._lock:
            oldest = next(iter(self._undelivered.values()), None)
            return self._made_before > boundary_us and (oldest is None or oldest > boundary_us)

    def take(self, boundary_us: int) -> list[Availability]:
        """Take the next availabilities up to the boundary (inclusive), in order."""
        taken: list[Availability] = []
        with self._lock:
            while self._availabilities and self._availabilities[0].at_us <= boundary_us:
                taken.append(self._availabilities.popleft())
        return taken
