"""When a silent partition stops holding the watermark. Pure: times are seconds of the owner's monotonic clock."""

from collections.abc import Collection, Mapping

Since = Mapping[int, float]


def observe(since: Since, quiet: Collection[int], at: float) -> Since:
    """Since when each partition has been quiet without a break, as far as was looked.

    ``quiet``: the partitions of which it is known, at ``at``, that nothing is on its way in them. A partition that is
    not among them, be it busy or unknown, starts anew.
    """
    return {p: since.get(p, at) for p in quiet}


def idle(since: Since, at: float, timeout: float) -> frozenset[int]:
    """Partitions that have been quiet for ``timeout`` seconds (inclusive) at ``at``."""
    return frozenset(p for p, start in since.items() if at - start >= timeout)
