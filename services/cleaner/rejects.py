"""DLQ_MAX_RATIO: stop before a whole topic drains into the dead letter queue."""

from collections.abc import Sequence
from itertools import chain

from retail_stream.entities import Entity
from retail_stream.errors import TooManyRejects

WINDOW = 10_000


class RejectRatio:
    """Watches the last 10,000 records of one entity in this process; says nothing before it has seen that many."""

    def __init__(self, entity: Entity, most: float) -> None:
        """``most``: the share of rejected records, 0 to 1, that is still accepted."""
        self._entity = entity
        self._most = most
        self._last: list[bool] = []

    def observe(self, rejected: Sequence[bool]) -> TooManyRejects | None:
        """Take the next records into account; an answer says that too many of the last were rejected."""
        self._last = list(chain(self._last, rejected))[-WINDOW:]
        share = sum(self._last) / WINDOW
        if len(self._last) < WINDOW or share <= self._most:
            return None
        return TooManyRejects(
            f"{share:.0%} of the last {WINDOW:,} {self._entity} records were rejected, more than"
            f" DLQ_MAX_RATIO={self._most:g} allows; see {self._entity}.dlq for the reasons."
        )
