"""What sales choose from: the ids of each dimension as of a boundary, prices, and which stores sell."""

import numpy as np

from retail_stream.entities import Entity
from services.generator.records import Ints
from services.generator.retailer.assortment import Assortment
from services.generator.retailer.shelf import Shelf
from services.generator.retailer.versions import EVER


class OpenStores(Shelf):
    """The stores, and when they sell."""

    def __init__(self, longer_us: int = 0) -> None:
        super().__init__(longer_us)
        self._cell = EVER, EVER + 1

    def begin(self, from_us: int, until_us: int) -> None:
        """Sales from ``from_us`` (inclusive) to ``until_us`` (exclusive) choose next."""
        if (from_us, until_us) != self._cell:
            self._cell = from_us, until_us
            self._offer()

    def _offer(self) -> None:
        """Offer the stores that sell during the whole time."""
        first, until = self._cell
        steady = self.from_us <= first
        offered = (self.values != 0) & steady
        for place in np.flatnonzero(~steady).tolist():
            offered[place] = self.versions.all_true(int(self.ids[place]), first, until)
        self.offered = np.flatnonzero(offered)

    def selling_from(self, stores: Ints, at_us: Ints) -> Ints:
        """For each store the first moment from ``at_us`` on at which it sells; NEVER if none is known."""
        places = np.searchsorted(self.ids, stores)
        moved = at_us.copy()
        unsure = (self.values[places] == 0) | (self.from_us[places] > at_us)
        for row in np.flatnonzero(unsure).tolist():
            moved[row] = self.versions.next_true(int(stores[row]), int(at_us[row]))
        return moved


class Market:
    """A shelf for each dimension."""

    def __init__(self, longer_us: int = 0) -> None:
        """``longer_us``: how long before the last hour a sale may have happened that is published now."""
        self.customers, self.products, self.stores = Shelf(), Assortment(longer_us), OpenStores(longer_us)
        self.shelves: dict[Entity, Shelf] = {
            Entity.CUSTOMERS: self.customers, Entity.PRODUCTS: self.products, Entity.STORES: self.stores
        }  # fmt: skip
