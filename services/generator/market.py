"""What sales can choose from: the ids of each dimension as of a boundary, and the products' prices."""

from collections.abc import Iterable

import numpy as np

from retail_stream.entities import JOINED, Entity
from services.generator.arrays import Flags, Floats, Ints
from services.generator.supply import Change


class Shelf:
    """The ids of one dimension. Row i of each array is id i; row 0 is never chosen."""

    def __init__(self) -> None:
        self.prices: Ints = np.zeros(1, np.int64)
        self._alive: Flags = np.zeros(1, bool)
        self._nearest: Ints = np.zeros(1, np.int64)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over changes, in order."""
        changes = list(changes)
        if not changes:
            return
        missing = max(c.id for c in changes) + 1 - len(self.prices)
        if missing > 0:
            self.prices = np.concatenate([self.prices, np.zeros(missing, np.int64)])
            self._alive = np.concatenate([self._alive, np.zeros(missing, bool)])
        for change in changes:
            self._alive[change.id] = change.price_cents is not None
            if change.price_cents is not None:
                self.prices[change.id] = change.price_cents
        below = np.maximum.accumulate(np.where(self._alive, np.arange(len(self._alive)), 0))
        self._nearest = np.where(below == 0, int(np.argmax(self._alive)), below)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to choose."""
        return not self._alive.any()

    def alive(self, ids: Ints) -> Flags:
        """Whether each id exists and was not given up; sales of other sources may name any id."""
        known = (ids > 0) & (ids < len(self._alive))
        return known & self._alive[np.where(known, ids, 0)]

    def evenly(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), all as likely; one that was given up leaves its share to a neighbour."""
        return self._nearest[1 + (u * (len(self._alive) - 1)).astype(np.int64)]

    def popular(self, u: Floats) -> Ints:
        """An id for each number in [0, 1) by Zipf's law: the likelihood of id i goes as 1/i."""
        largest = len(self._alive) - 1
        rank = np.exp(u * np.log(largest + 1)).astype(np.int64)
        return self._nearest[np.clip(rank, 1, largest)]


class Market:
    """A shelf for each dimension."""

    def __init__(self) -> None:
        self.shelves = {e: Shelf() for e in JOINED}

    @property
    def customers(self) -> Shelf:
        return self.shelves[Entity.CUSTOMERS]

    @property
    def products(self) -> Shelf:
        return self.shelves[Entity.PRODUCTS]

    @property
    def stores(self) -> Shelf:
        return self.shelves[Entity.STORES]
