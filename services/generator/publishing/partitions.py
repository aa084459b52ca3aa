"""Which partition a key goes to, as Kafka's Java clients and our producers decide it (murmur2)."""

from functools import lru_cache

import numpy as np

from services.generator.retailer.arrays import Ints

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key. Source: Kafka, ``Utils.murmur2`` and ``Utils.toPositive``."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


class _Keys(dict[int, bytes]):
    def __missing__(self, number: int) -> bytes:
        key = self[number] = b"%d" % number
        return key


class Stores:
    """The keys of stores, and which partitions their sales go to."""

    def __init__(self, partitions: int) -> None:
        self._keys = _Keys()
        self._count = partitions

    def keys(self, numbers: Ints) -> list[bytes]:
        """The key of each store."""
        return list(map(self._keys.__getitem__, numbers.tolist()))

    def partition(self, key: bytes) -> int:
        """The partition of a key."""
        return partition_of(key, self._count)

    def partitions(self, numbers: Ints) -> Ints:
        """The partition of each store."""
        return np.fromiter(map(self.partition, self.keys(numbers)), np.int64, len(numbers))


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
