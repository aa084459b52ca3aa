"""What sales can choose from: the ids of each dimension as of a boundary, and the products' prices."""

from collections.abc import Iterable

import numpy as np

from retail_stream.entities import JOINED, Entity
from services.generator.retailer.arrays import Flags, Floats, Ints
from services.generator.retailer.supply import Change


class Shelf:
    """The ids of one dimension side by side, ascending, however far apart they are: other sources may name any.

    Row i of each array is the same id. One that was given up keeps its row, and leaves its share to a neighbour.
    """

    def __init__(self) -> None:
        self._ids: Ints = np.zeros(0, np.int64)
        self._prices: Ints = np.zeros(0, np.int64)
        self._alive: Flags = np.zeros(0, bool)
        #: row → the next row before it that is alive; the first that is where there is none
        self._nearest: Ints = np.zeros(0, np.int64)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over changes, in order."""
        changes = list(changes)
        if not changes:
            return
        ids = np.array([c.id for c in changes], np.int64)
        new = np.setdiff1d(ids, self._ids)
        if len(new):
            rows = np.searchsorted(self._ids, new)
            self._ids = np.insert(self._ids, rows, new)
            self._prices = np.insert(self._prices, rows, 0)
            self._alive = np.insert(self._alive, rows, False)
        for row, change in zip(np.searchsorted(self._ids, ids).tolist(), changes, strict=True):
            self._alive[row] = change.price_cents is not None
            if change.price_cents is not None:
                self._prices[row] = change.price_cents
        below = np.maximum.accumulate(np.where(self._alive, np.arange(len(self._alive)), -1))
        self._nearest = np.where(below < 0, int(np.argmax(self._alive)), below)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to choose."""
        return not self._alive.any()

    @property
    def living(self) -> Ints:
        """The ids that were not given up."""
        return self._ids[self._alive]

    def alive(self, ids: Ints) -> Flags:
        """Whether each id exists and was not given up."""
        return np.isin(ids, self.living)

    def prices(self, ids: Ints) -> Ints:
        """The price in cents of each id; they are all known."""
        return self._prices[np.searchsorted(self._ids, ids)]

    def evenly(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), all as likely."""
        return self._ids[self._nearest[(u * len(self._ids)).astype(np.int64)]]

    def popular(self, u: Floats) -> Ints:
        """An id for each number in [0, 1) by Zipf's law: the likelihood of the i-th goes as 1/i."""
        size = len(self._ids)
        rank = np.exp(u * np.log(size + 1)).astype(np.int64)
        return self._ids[self._nearest[np.clip(rank, 1, size) - 1]]


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
