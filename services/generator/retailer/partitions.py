"""Which partition a sale goes to: murmur2 of its key, as Kafka's Java clients and our producers compute it."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from services.generator.records import Floats, Ints

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_KEPT_KEYS = 4096


@lru_cache(maxsize=_KEPT_KEYS)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key. Source: Kafka, ``Utils.murmur2`` and ``Utils.toPositive``."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


class _Keys(dict[int, bytes]):
    """Store → key. Stores come and go, so the keys of those that are long closed are dropped now and then."""

    def __missing__(self, number: int) -> bytes:
        if len(self) >= _KEPT_KEYS:
            self.clear()
        key = self[number] = b"%d" % number
        return key


class StorePartitions:
    """The keys of stores, the partitions of their sales, and the partitions that are silent."""

    def __init__(self, partitions: int) -> None:
        self._keys = _Keys()
        self._count = partitions
        #: partitions that fell silent and have had no record since
        self._silent: set[int] = set()

    def keys(self, numbers: Ints) -> list[bytes]:
        """The key of each store."""
        return list(map(self._keys.__getitem__, numbers.tolist()))

    def partition(self, key: bytes) -> int:
        """The partition of a key."""
        return partition_of(key, self._count)

    def partitions(self, numbers: Ints) -> Ints:
        """The partition of each store."""
        return np.fromiter(map(self.partition, self.keys(numbers)), np.int64, len(numbers))

    def leave_silent(self, stores: Ints, quiet: Ints, u: Floats, living: Ints) -> None:
        """Move sales of silent partitions to other stores, in place.

        ``quiet``: per sale, the silent partition or -1. ``u``: per sale, a number in [0, 1). ``living``: all stores.
        """
        for partition in np.unique(quiet[quiet >= 0]).tolist():
            self._silent.add(partition)
            others = living[self.partitions(living) != partition]
            here = (quiet == partition) & (self.partitions(stores) == partition)
            if len(others):
                stores[here] = others[(u[here] * len(others)).astype(np.int64)]

    def ended_silences(self, keys: list[bytes], quiet: Ints) -> Iterator[int]:
        """The rows that end a silence: the first one with a key of a silent partition after its silence."""
        for partition in sorted(self._silent):
            rows = (i for i, key in enumerate(keys) if quiet[i] != partition and self.partition(key) == partition)
            if (row := next(rows, None)) is not None:
                self._silent.discard(partition)
                yield row


def _murmur2(data: bytes) -> int:
    h = (0x9747B28C ^ len(data)) & _MASK
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
