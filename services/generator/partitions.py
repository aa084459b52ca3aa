"""Which partition a key goes to, as Kafka's Java clients and our producers decide it (murmur2)."""

from functools import lru_cache

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key. Source: Kafka, ``Utils.murmur2`` and ``Utils.toPositive``."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


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
