"""When a silent partition stops holding the watermark. Pure: times are seconds of the owner's monotonic clock."""

from collections.abc import Collection, Mapping

Since = Mapping[int, float]


def observe(since: Since, quiet: Collection[int], at: float) -> Since:
    """The time since which each partition has been quiet at every look.

    ``quiet``: partitions known to have nothing in flight at time ``at``. A partition missing from it is busy or
    unknown, and its clock restarts.
    """
    return {p: since.get(p, at) for p in quiet}


def idle(since: Since, at: float, timeout: float) -> frozenset[int]:
    """The partitions that have been quiet for at least ``timeout`` seconds at ``at``."""
    return frozenset(p for p, start in since.items() if at - start >= timeout)
