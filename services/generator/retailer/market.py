"""What sales choose from: the ids of each dimension as of a boundary, and the products' prices."""

from collections.abc import Iterable

import numpy as np

from retail_stream.entities import Entity
from services.generator.records import Flags, Floats, Ints
from services.generator.retailer.supply import Availability


class Shelf:
    """The ids of one dimension, ascending; gaps cost nothing, since other sources may use any id.

    Row i of each array belongs to the same id. A withdrawn id keeps its row, and a neighbour takes over its share.
    """

    def __init__(self) -> None:
        self._ids: Ints = np.zeros(0, np.int64)
        self._prices: Ints = np.zeros(0, np.int64)
        self._alive: Flags = np.zeros(0, bool)
        #: row → the nearest row up to it that is alive, else the first that is alive
        self._nearest: Ints = np.zeros(0, np.int64)

    def apply(self, availabilities: Iterable[Availability]) -> None:
        """Apply availabilities, in order of time."""
        given = list(availabilities)
        if not given:
            return
        ids = np.array([a.id for a in given], np.int64)
        new = np.setdiff1d(ids, self._ids)
        if len(new):
            rows = np.searchsorted(self._ids, new)
            self._ids = np.insert(self._ids, rows, new)
            self._prices = np.insert(self._prices, rows, 0)
            self._alive = np.insert(self._alive, rows, False)
        for row, availability in zip(np.searchsorted(self._ids, ids).tolist(), given, strict=True):
            self._alive[row] = availability.price_cents is not None
            if availability.price_cents is not None:
                self._prices[row] = availability.price_cents
        below = np.maximum.accumulate(np.where(self._alive, np.arange(len(self._alive)), -1))
        self._nearest = np.where(below < 0, int(np.argmax(self._alive)), below)

    @property
    def empty(self) -> bool:
        """Whether no id is alive."""
        return not self._alive.any()

    @property
    def living(self) -> Ints:
        """The ids that are alive."""
        return self._ids[self._alive]

    def alive(self, ids: Ints) -> Flags:
        """Whether each id is known and alive."""
        return np.isin(ids, self.living)

    def prices(self, ids: Ints) -> Ints:
        """The price in cents of each id. All ids are known."""
        return self._prices[np.searchsorted(self._ids, ids)]

    def evenly(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), by a uniform distribution."""
        return self._ids[self._nearest[(u * len(self._ids)).astype(np.int64)]]

    def popular(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), by Zipf's law: the probability of the i-th id is proportional to 1/i."""
        size = len(self._ids)
        rank: Ints = np.clip(np.exp(u * np.log(size + 1)).astype(np.int64), 1, size)
        return self._ids[self._nearest[rank - 1]]


class Market:
    """A shelf for each dimension."""

    def __init__(self) -> None:
        self.customers, self.products, self.stores = Shelf(), Shelf(), Shelf()
        self.shelves = {
            Entity.CUSTOMERS: self.customers, Entity.PRODUCTS: self.products, Entity.STORES: self.stores
        }  # fmt: skip
