"""What sales choose from: the ids of each dimension as of a boundary, and the products' prices."""

from collections.abc import Iterable

import numpy as np

from retail_stream.entities import Entity
from services.generator.records import Flags, Floats, Ints
from services.generator.retailer.supply import Availability


class Shelf:
    """The ids of one dimension that are not withdrawn, ascending, and their prices. Gaps cost nothing."""

    def __init__(self) -> None:
        self._ids: Ints = np.zeros(0, np.int64)
        self._prices: Ints = np.zeros(0, np.int64)

    def apply(self, availabilities: Iterable[Availability]) -> None:
        """Apply availabilities, in order of time."""
        newest = {a.id: a.price_cents for a in availabilities}
        if not newest:
            return
        kept = ~np.isin(self._ids, list(newest))
        offered = [(i, price) for i, price in newest.items() if price is not None]
        ids = np.concatenate([self._ids[kept], np.array([i for i, _ in offered], np.int64)])
        prices = np.concatenate([self._prices[kept], np.array([price for _, price in offered], np.int64)])
        order = np.argsort(ids)
        self._ids, self._prices = ids[order], prices[order]

    @property
    def empty(self) -> bool:
        """Whether there is no id."""
        return not len(self._ids)

    @property
    def living(self) -> Ints:
        """The ids."""
        return self._ids

    def alive(self, ids: Ints) -> Flags:
        """Whether each id is here."""
        return np.isin(ids, self._ids)

    def prices(self, ids: Ints) -> Ints:
        """The price in cents of each id. All ids are here."""
        return self._prices[np.searchsorted(self._ids, ids)]

    def evenly(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), by a uniform distribution."""
        return self._ids[(u * len(self._ids)).astype(np.int64)]

    def popular(self, u: Floats) -> Ints:
        """An id for each number in [0, 1), by Zipf's law: the probability of the i-th id is proportional to 1/i."""
        size = len(self._ids)
        rank: Ints = np.clip(np.exp(u * np.log(size + 1)).astype(np.int64), 1, size)
        return self._ids[rank - 1]


class Market:
    """A shelf for each dimension."""

    def __init__(self) -> None:
        self.customers, self.products, self.stores = Shelf(), Shelf(), Shelf()
        self.shelves = {
            Entity.CUSTOMERS: self.customers, Entity.PRODUCTS: self.products, Entity.STORES: self.stores
        }  # fmt: skip
