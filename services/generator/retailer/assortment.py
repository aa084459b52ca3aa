"""The products that sales choose from: their prices at a moment, and their stock."""

import numpy as np

from services.generator.records import Flags, Floats, Ints
from services.generator.retailer.shelf import Shelf, ranks
from services.generator.timing.baskets import MOST_LINES

#: The most pieces of one line.
MOST_PIECES = 5
#: How often lines of a block that want more than there is choose again: together they may want too much of another one.
_TRIES = 10


class Assortment(Shelf):
    """The products. Those in stock are offered; all of them while fewer than a basket needs are in stock.

    So stock falls below zero only where nearly everything is sold out, because the deliveries are late.
    """

    def _offer(self) -> None:
        in_stock = np.flatnonzero(self.stock > 0)
        self.offered = in_stock if len(in_stock) >= MOST_LINES else np.arange(len(self.ids))

    def choose(self, u: Floats, again: Floats, basket: Ints, pieces: Ints) -> Ints:
        """A place for each line: popular products, different ones in a basket, as long as there are enough pieces.

        ``u`` and ``again``: a number in [0, 1) for each line, for its first choice and for the one if that is sold out.
        ``basket``: the number of the first line of each line's basket, which has no more lines than there are products.
        """
        size = len(self.offered)
        rank = ranks(u, size)
        everywhere = np.ones(len(rank), bool)
        while (clash := _clashes(rank, basket, everywhere)).any():
            rank[clash] = (rank[clash] + 1) % size
        chosen: Ints = self.offered[rank]
        for _ in range(_TRIES):
            wanted = np.bincount(chosen, pieces, len(self.ids)).astype(np.int64)
            rows = np.flatnonzero((wanted > self.stock)[chosen])
            if not len(rows) or not self._choose_again(chosen, rows, wanted, again, basket, pieces):
                break
        return chosen

    def _choose_again(self, chosen: Ints, rows: Ints, wanted: Ints, again: Floats, basket: Ints, pieces: Ints) -> bool:
        """Give the lines that want more than there is another product, in place; False if there are too few others.

        ``rows``: the lines of products of which there are too few pieces.
        """
        rows = rows[np.argsort(chosen[rows], kind="stable")]
        total, product = np.cumsum(pieces[rows]), chosen[rows]
        firsts = np.flatnonzero(np.diff(product, prepend=-1))
        before = np.repeat((total - pieces[rows])[firsts], np.diff(firsts, append=len(rows)))
        refused = rows[total - before > self.stock[product]]
        ample = np.flatnonzero(self.stock - wanted >= MOST_PIECES)
        if len(ample) < MOST_LINES:
            return False
        moving = np.zeros(len(chosen), bool)
        moving[refused] = True
        rank = (again * len(ample)).astype(np.int64)
        chosen[refused] = ample[rank[refused]]
        while (clash := _clashes(chosen, basket, moving)).any():
            rank[clash] = (rank[clash] + 1) % len(ample)
            chosen[clash] = ample[rank[clash]]
        return True

    def prices(self, places: Ints, at_us: Ints) -> Ints:
        """The price in cents at each place, at a moment each."""
        prices = self.values[places]
        for row in np.flatnonzero(self.from_us[places] > at_us).tolist():
            prices[row] = self.versions.at(int(self.ids[places[row]]), int(at_us[row]))
        return prices

    def sell(self, products: Ints, pieces: Ints) -> dict[int, int]:
        """Take pieces from the stock; those below zero come back. Returns the sum of each product that has any."""
        sums = np.bincount(np.searchsorted(self.ids, products), pieces, len(self.ids)).astype(np.int64)
        had = self.stock > 0
        self.stock[:] -= sums
        if (had != (self.stock > 0)).any():
            self._offer()
        sold = np.flatnonzero(sums)
        return dict(zip(self.ids[sold].tolist(), sums[sold].tolist(), strict=True))


def _clashes(product: Ints, basket: Ints, moving: Flags) -> Flags:
    """The lines that have the product of another line of their basket: of each pair a moving one, the later if both."""
    clash = np.zeros(len(product), bool)
    for far in range(1, MOST_LINES):
        same = (basket[far:] == basket[:-far]) & (product[far:] == product[:-far])
        if same.any():
            clash[far:] |= same & moving[far:]
            clash[:-far] |= same & ~moving[far:]
    return clash & moving
