"""What a dimension has made, and how much of it is on its topic: the only state that the threads share.

A sale at time t chooses among the ids that the dimensions had made by a boundary before t, and waits until all of them
are on their topics. So its choice depends on times only, not on when a broker acknowledged a record::

    second   0         1         2         3
             |---------|---------|---------|
    boundary           ^ of all sales in [2, 3)

A change takes effect LEAD_US after it is published, as price lists do. So a sale at time t knows every price and every
status that is valid up to t.

The other way, the products' stock falls with the sales. A change of a product counts all sales up to a time before it::

    second   0         1         2   ...   7         8
             |---------|---------|   ...   |---------|
    counted            ^ exclusive, of all changes in [6, 7), if stock is counted after five seconds
"""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from services.generator.records import ProducerBatch
from services.generator.retailer.versions import EVER
from services.generator.timing.schedule import SECOND_US

#: How long sales use one boundary.
CELL_US = SECOND_US
#: From the publication of a change until it takes effect.
LEAD_US = 2 * CELL_US


class Availability(NamedTuple):
    """What sales know of an id from ``at_us`` on.

    ``value``: of a product its price in cents, of a store 1 if it sells and 0 if not, from ``from_us`` on; None
    withdraws the id. ``delivered``: pieces that a product's stock gains. ``closed``: the id has its tombstone.
    """

    at_us: int
    id: int
    value: int | None = 1
    from_us: int = EVER
    delivered: int = 0
    closed: bool = False


def boundary(start_us: int, at_us: int) -> int:
    """The time up to which (inclusive) sales at ``at_us`` know the dimensions."""
    return start_us + ((at_us - start_us) // CELL_US - 1) * CELL_US


def last_of_cell(start_us: int, at_us: int) -> int:
    """The last moment that has the same boundary as ``at_us``."""
    return start_us + ((at_us - start_us) // CELL_US + 1) * CELL_US - 1


def counted_before(start_us: int, at_us: int, after_us: int) -> int:
    """The time up to which (exclusive) the stock in a change at ``at_us`` counts sales. ``after_us``: whole seconds."""
    return start_us + (at_us - start_us) // CELL_US * CELL_US - after_us


class Supply:
    """From one dimension's thread (``add``, ``made``, ``delivered``) to the sales thread (``ready``, ``take``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._availabilities: deque[Availability] = deque()
        #: (id, time) of records that are not on the topic yet, oldest first
        self._undelivered: dict[tuple[int, int], None] = {}
        self._made_before = -(2**63)

    def add(self, availability: Availability, on_topic: bool) -> None:
        """Add an availability, in order of time. ``on_topic``: False until :meth:`delivered` has its record."""
        with self._lock:
            self._availabilities.append(availability)
            if not on_topic:
                self._undelivered[availability.id, availability.at_us] = None

    def waits_for(self, batch: ProducerBatch) -> bool:
        """Whether sales wait for any of these records."""
        with self._lock:
            return any(record in self._undelivered for record in zip(batch.ids, batch.at_us, strict=True))

    def delivered(self, batch: ProducerBatch) -> None:
        """Note that records are on the topic."""
        with self._lock:
            for record in zip(batch.ids, batch.at_us, strict=True):
                self._undelivered.pop(record, None)

    def made(self, before_us: int) -> None:
        """Note that every change before this time (exclusive) has been made."""
        self._made_before = before_us

    def ready(self, boundary_us: int) -> bool:
        """Whether all changes up to the boundary (inclusive) are made and on the topic."""
        with self._lock:
            oldest = next(iter(self._undelivered), None)
            return self._made_before > boundary_us and (oldest is None or oldest[1] > boundary_us)

    def take(self, boundary_us: int) -> list[Availability]:
        """Take the next availabilities up to the boundary (inclusive), in order."""
        taken: list[Availability] = []
        with self._lock:
            while self._availabilities and self._availabilities[0].at_us <= boundary_us:
                taken.append(self._availabilities.popleft())
        return taken


class SoldPieces:
    """From the sales thread to that of the products: pieces sold, less those returned, by product."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sold: deque[tuple[int, Mapping[int, int]]] = deque()

    def add(self, at_us: int, pieces: Mapping[int, int]) -> None:
        """Note the pieces of sales that are published in the second of ``at_us``, in order of time."""
        with self._lock:
            self._sold.append((at_us, pieces))

    def take(self, before_us: int) -> dict[int, int]:
        """Take the pieces of all seconds that begin before a time."""
        taken: Counter[int] = Counter()
        with self._lock:
            while self._sold and self._sold[0][0] < before_us:
                for number, pieces in self._sold.popleft()[1].items():
                    taken[number] += pieces
        return dict(taken)
