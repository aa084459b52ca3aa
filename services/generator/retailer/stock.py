"""The stock as the retailer counts it, and which deliveries are due. Pure.

The stock is what was delivered less what is known to be sold. A product is ordered when it would last for less than a
quarter of an hour, and the delivery is its next change. It then has enough for an hour at the rate of late.
"""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

_COVERED_US = 3600 * 1_000_000
#: Ordered when a quarter of that, or so many pieces, are left.
_REORDER_SHARE, _FEW = 0.25, 20
_LARGEST = 10**9
_INT32 = 2**31 - 1


@dataclass
class _Account:
    delivered: int
    sold: int
    since_us: int
    #: pieces sold since then
    lately: int = 0
    reorder: int = _FEW
    ordered: bool = False


class Stock:
    """The accounts of all open products."""

    def __init__(self, delivered: Mapping[int, int] | None = None, sold: Mapping[int, int] | None = None) -> None:
        """Product → pieces that were delivered and sold so far."""
        self._delivered, self._sold = delivered or {}, sold or {}
        self._accounts: dict[int, _Account] = {}
        self._orders: deque[int] = deque()
        #: products whose rows do not show their stock, in the order in which they fell behind
        self._behind: dict[int, None] = {}

    def resume(self, number: int, quantity: int, at_us: int) -> int:
        """Go on with a product whose row shows this quantity; returns its stock."""
        sold = self._sold.get(number, 0)
        account = _Account(self._delivered.get(number, quantity + sold), sold, at_us)
        self._accounts[number] = account
        if account.delivered - sold != quantity:
            self._behind[number] = None
        self.report({number: 0})
        return account.delivered - sold

    def open(self, number: int, quantity: int, at_us: int) -> None:
        """Begin with a new product."""
        self._accounts[number] = _Account(quantity, 0, at_us)

    def close(self, number: int) -> None:
        """Drop a product."""
        self._accounts.pop(number, None)
        self._behind.pop(number, None)

    def report(self, sold: Mapping[int, int]) -> None:
        """Count pieces that were sold: product → pieces, below zero if more came back."""
        for number, pieces in sold.items():
            account = self._accounts.get(number)
            if account is None:
                continue
            account.sold += pieces
            account.lately += pieces
            if pieces:
                self._behind[number] = None
            if not account.ordered and account.delivered - account.sold < account.reorder:
                account.ordered = True
                self._orders.append(number)

    def due(self) -> int | None:
        """The product whose stock changes next: one with a delivery, else the one that fell behind first."""
        while self._orders:
            number = self._orders[0]
            if number in self._accounts:
                return number
            self._orders.popleft()
        return next(iter(self._behind), None)

    def deliver(self, number: int, at_us: int, rng: random.Random) -> int:
        """The pieces of a delivery to the product of :meth:`due`; 0 if none is due. The next count includes them."""
        if not self._orders or self._orders[0] != number:
            return 0
        self._orders.popleft()
        account = self._accounts[number]
        rate = max(0, account.lately) / max(1_000_000, at_us - account.since_us)
        missing = max(0, account.sold - account.delivered)
        pieces = min(_LARGEST, rng.randrange(50, 500) + missing + int(rate * _COVERED_US))
        account.delivered += pieces
        account.since_us, account.lately, account.ordered = at_us, 0, False
        account.reorder = min(pieces, _FEW + int(rate * _COVERED_US * _REORDER_SHARE))
        return pieces

    def delivered(self, number: int) -> int:
        """The pieces of a product that were delivered so far."""
        return self._accounts[number].delivered

    def count(self, number: int) -> int:
        """The stock of a product, whose row shows it from now on."""
        self._behind.pop(number, None)
        account = self._accounts[number]
        return max(-_INT32, min(_INT32, account.delivered - account.sold))
