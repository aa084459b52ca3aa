"""DLQ_MAX_RATIO: stop before a whole topic drains into the dead letter queue."""

from collections import deque
from collections.abc import Iterable

from retail_stream.entities import Entity
from retail_stream.errors import TooManyRejects

WINDOW = 10_000


class RejectRatio:
    """The share of rejects among the last 10,000 records of one entity, once this process has seen that many."""

    def __init__(self, entity: Entity, most: float) -> None:
        """``most``: the share of rejected records, 0 to 1, that is still accepted."""
        self._entity = entity
        self._most = most
        self._seen = 0
        # Which of all records seen were rejected; only those of the last WINDOW are kept.
        self._rejected: deque[int] = deque()

    def observe(self, records: int, rejected: Iterable[int]) -> TooManyRejects | None:
        """Count the next records; the error is returned, not raised, if too many of the last ones were rejected.

        ``rejected``: which of these ``records``, by index, in any order.
        """
        self._rejected.extend(self._seen + row for row in sorted(rejected))
        self._seen += records
        while self._rejected and self._rejected[0] < self._seen - WINDOW:
            self._rejected.popleft()
        share = len(self._rejected) / WINDOW
        if self._seen < WINDOW or share <= self._most:
            return None
        return TooManyRejects(
            f"{share:.0%} of the last {WINDOW:,} {self._entity} records were rejected, more than"
            f" DLQ_MAX_RATIO={self._most:g} allows; see {self._entity}.dlq for the reasons."
        )
