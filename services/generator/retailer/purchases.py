"""Recent sales: which of them customers return, and which a source publishes a second time."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from services.generator.records import Floats, Ints
from services.generator.retailer.market import Market

RECENT = 5000


@dataclass
class Purchases:
    """Purchases as columns; ``left``: how many pieces the customer has not returned."""

    store: Ints
    customer: Ints
    product: Ints
    price_cents: Ints
    left: Ints
    event_us: Ints

    def joined(self, other: "Purchases") -> "Purchases":
        """The last :data:`RECENT` of these rows and then the other's."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Purchases(*(np.concatenate(p)[-RECENT:] for p in pairs))

    def rows(self, which: Ints) -> "Purchases":
        """Some of the rows, by number."""
        return Purchases(*(getattr(self, f.name)[which] for f in fields(self)))


def _none() -> Purchases:
    return Purchases(*(np.zeros(0, np.int64) for _ in fields(Purchases)))


class SaleCopy(NamedTuple):
    """A published sale as bytes, with its ``transaction_id``."""

    key: bytes
    value: bytes
    id: int
    is_return: bool = False


class RecentSales:
    """The last :data:`RECENT` purchases and the last :data:`RECENT` sales of earlier blocks."""

    def __init__(self) -> None:
        self._purchases = _none()
        self._copies: list[SaleCopy] = []

    def add(self, purchases: Purchases, copies: list[SaleCopy]) -> None:
        """Remember the purchases (without returns) and the copies of a block's valid sales."""
        self._purchases = self._purchases.joined(purchases)
        self._copies = (self._copies + copies)[-RECENT:]

    def returns(
        self, wanted: Ints, u: Floats, share: Floats, event_us: Ints, at_us: Ints, market: Market
    ) -> tuple[Ints, Purchases, Ints]:
        """Returns for some of the slots ``wanted``: (those slots, their purchases, pieces returned, at least 1).

        ``u`` and ``share``: a number in [0, 1) for each wanted slot: which purchase, and how much of it. ``event_us``
        and ``at_us``: the earliest and the latest time of each slot's return. The purchases that come back have the
        times of the returns. A slot has no return where no piece of its purchase is left, another slot picked the same
        purchase, the store does not sell in time, or an id of it has been withdrawn.
        """
        size = len(self._purchases.left)
        if not size or not len(wanted):
            return np.zeros(0, np.int64), _none(), np.zeros(0, np.int64)
        picked, first = np.unique((u * size).astype(np.int64), return_index=True)
        bought = self._purchases.rows(picked)
        good = (
            (bought.left > 0)
            & market.customers.alive(bought.customer)
            & market.products.alive(bought.product)
            & market.stores.alive(bought.store)
        )
        picked, first, bought = picked[good], first[good], bought.rows(np.flatnonzero(good))
        bought.event_us = market.stores.selling_from(bought.store, np.maximum(bought.event_us, event_us[first]))
        good = bought.event_us <= at_us[first]
        picked, first, bought = picked[good], first[good], bought.rows(np.flatnonzero(good))
        pieces = 1 + (share[first] * bought.left).astype(np.int64)
        self._purchases.left[picked] -= pieces
        return wanted[first], bought, pieces

    def copy(self, u: float) -> SaleCopy | None:
        """One of the recent sales, ``u`` in [0, 1); None where there are none."""
        return self._copies[int(u * len(self._copies))] if self._copies else None
