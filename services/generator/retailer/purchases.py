"""Recent sales: what customers bring back, and what a source publishes a second time."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from services.generator.retailer.arrays import Floats, Ints
from services.generator.retailer.market import Market

RECENT = 5000


@dataclass
class Columns:
    """Purchases as columns; ``left``: how many pieces the customer has not brought back."""

    store: Ints
    customer: Ints
    product: Ints
    price_cents: Ints
    left: Ints
    event_us: Ints

    def joined(self, other: "Columns") -> "Columns":
        """These rows, then the other's; of both the last :data:`RECENT`."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Columns(*(np.concatenate(p)[-RECENT:] for p in pairs))

    def rows(self, which: Ints) -> "Columns":
        """Some of the rows."""
        return Columns(*(getattr(self, f.name)[which] for f in fields(self)))


def _none() -> Columns:
    return Columns(*(np.zeros(0, np.int64) for _ in fields(Columns)))


class Copy(NamedTuple):
    """A published sale as bytes."""

    key: bytes
    value: bytes
    id: int
    is_return: bool = False


class Purchases:
    """The last sales, of blocks before the present one only."""

    def __init__(self) -> None:
        self._columns = _none()
        self._copies: list[Copy] = []

    def add(self, columns: Columns, copies: list[Copy]) -> None:
        """Remember the purchases (not the returns) and the copies of a block."""
        self._columns = self._columns.joined(columns)
        self._copies = (self._copies + copies)[-RECENT:]

    def bring_back(self, wanted: Ints, u: Floats, share: Floats, market: Market) -> tuple[Ints, Columns, Ints]:
        """Returns for the slots ``wanted``: (slots that have one, their purchases, pieces brought back from 1).

        ``u``, ``share``: a number in [0, 1) for each wanted slot: which purchase, and how much of it. A slot has no
        return where its purchase was all brought back, was picked twice, or is of something given up since.
        """
        size = len(self._columns.left)
        if not size or not len(wanted):
            return np.zeros(0, np.int64), _none(), np.zeros(0, np.int64)
        picked, first = np.unique((u * size).astype(np.int64), return_index=True)
        bought = self._columns.rows(picked)
        good = (
            (bought.left > 0)
            & market.customers.alive(bought.customer)
            & market.products.alive(bought.product)
            & market.stores.alive(bought.store)
        )
        picked, first, bought = picked[good], first[good], bought.rows(np.flatnonzero(good))
        pieces = 1 + (share[first] * bought.left).astype(np.int64)
        self._columns.left[picked] -= pieces
        return wanted[first], bought, pieces

    def copy(self, u: float) -> Copy | None:
        """One of the recent sales, ``u`` in [0, 1)."""
        return self._copies[int(u * len(self._copies))] if self._copies else None
