"""The ids of one dimension that are not withdrawn, ascending, and their values. Gaps cost nothing."""

from collections.abc import Iterable

import numpy as np

from services.generator.records import Flags, Floats, Ints
from services.generator.retailer.supply import Availability
from services.generator.retailer.versions import Versions

_FROM, _VALUE, _SINCE, _STOCK = range(4)


class Shelf:
    """One dimension. A place is the number of an id in :attr:`ids`."""

    def __init__(self, longer_us: int = 0) -> None:
        self.versions = Versions(longer_us)
        self.ids: Ints = np.zeros(0, np.int64)
        self._rows: Ints = np.zeros((4, 0), np.int64)
        #: the places that sales may choose
        self.offered: Ints = np.zeros(0, np.int64)

    def apply(self, availabilities: Iterable[Availability]) -> None:
        """Apply availabilities, in order of time."""
        newest: dict[int, Availability] = {}
        delivered: dict[int, int] = {}
        for a in availabilities:
            newest[a.id] = a
            if a.value is None:
                self.versions.forget(a.id)
                delivered.pop(a.id, None)
            else:
                self.versions.add(a.id, a.from_us, a.value)
                delivered[a.id] = delivered.get(a.id, 0) + a.delivered
        if not newest:
            return
        here = dict(zip(*self._found(newest), strict=True))
        added = sorted(i for i, a in newest.items() if a.value is not None and i not in here)
        gone = [place for i, place in here.items() if newest[i].value is None]
        for number, place in here.items():
            if newest[number].value is not None:
                self._rows[:, place] = self._row(newest[number], int(self._rows[_STOCK, place]) + delivered[number])
        if added or gone:
            rows = np.array([self._row(newest[i], delivered[i]) for i in added], np.int64).reshape(-1, 4).T
            kept = np.ones(len(self.ids), bool)
            kept[gone] = False
            ids = np.concatenate([self.ids[kept], np.array(added, np.int64)])
            order = np.argsort(ids)
            self.ids, self._rows = ids[order], np.concatenate([self._rows[:, kept], rows], axis=1)[:, order]
        self._offer()

    def _found(self, ids: Iterable[int]) -> tuple[list[int], list[int]]:
        """Those of some ids that are here, and their places."""
        wanted = np.sort(np.fromiter(ids, np.int64))
        wanted = wanted[self.alive(wanted)]
        return wanted.tolist(), np.searchsorted(self.ids, wanted).tolist()

    def _row(self, a: Availability, stock: int) -> tuple[int, int, int, int]:
        return self.versions.newest_from(a.id), a.value or 0, self.versions.since(a.id), stock

    def _offer(self) -> None:
        self.offered = np.arange(len(self.ids))

    @property
    def from_us(self) -> Ints:
        """Since when each place has its newest value."""
        row: Ints = self._rows[_FROM]
        return row

    @property
    def values(self) -> Ints:
        """The newest value of each place."""
        row: Ints = self._rows[_VALUE]
        return row

    @property
    def since_us(self) -> Ints:
        """Since when the values of each place are known."""
        row: Ints = self._rows[_SINCE]
        return row

    @property
    def stock(self) -> Ints:
        """The pieces at each place, which sales change."""
        row: Ints = self._rows[_STOCK]
        return row

    @property
    def empty(self) -> bool:
        """Whether sales may choose nothing."""
        return not len(self.offered)

    def alive(self, ids: Ints) -> Flags:
        """Whether each id is here."""
        if not len(self.ids):
            return np.zeros(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        here: Flags = self.ids[places] == ids
        return here

    def evenly(self, u: Floats) -> Ints:
        """An offered id for each number in [0, 1), by a uniform distribution."""
        return self.ids[self.offered[(u * len(self.offered)).astype(np.int64)]]

    def popular(self, u: Floats) -> Ints:
        """An offered id for each number in [0, 1), by Zipf's law: the i-th is as probable as 1/i."""
        return self.ids[self.offered[ranks(u, len(self.offered))]]


def ranks(u: Floats, size: int) -> Ints:
    """A number from 0 to ``size`` (exclusive) for each number in [0, 1), by Zipf's law."""
    rank: Ints = np.clip(np.exp(u * np.log(size + 1)).astype(np.int64), 1, size) - 1
    return rank
