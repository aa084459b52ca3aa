"""Which of our partitions are idle, by looks at the cleaner's lag in a thread of their own.

A look asks a broker, which may take long to answer. The loop goes on meanwhile. While the lag is unknown, no partition
is idle.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from retail_stream.errors import Unavailable
from retail_stream.waiting import Outage
from services.aggregator import idleness

_LOOK_EVERY_S = 1.0
#: What was seen longer ago says nothing of now.
_OLD_S = 10.0

#: Partitions → those whose records are all cleaned, each with its end in the clean topic; may raise `Unavailable`.
Look = Callable[[Iterable[int]], Mapping[int, int]]


class QuietPartitions:
    """The partitions that are idle: read to the end, and nothing on its way to them, for the idle timeout.

    One thread calls it.
    """

    def __init__(self, look: Look, timeout_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """``now``: monotonic seconds."""
        self._look, self._timeout_s, self._now = look, timeout_s, now
        self._since: idleness.Since = {}
        self._outage = Outage()
        # The latest look, and the partitions that have been at their ends since it began.
        self._looking: threading.Thread | None = None
        self._began_at, self._seen_at = -_OLD_S, -_OLD_S
        self._at_end: frozenset[int] = frozenset()
        self._seen: Mapping[int, int] | Unavailable | None = None

    def forget(self) -> None:
        """Restart the clocks of all partitions: others may have owned them."""
        self._since, self._at_end = {}, frozenset()

    def idle(self, ends: Mapping[int, int]) -> frozenset[int]:
        """The partitions that are idle now. Call it with every batch.

        ``ends``: partition → its end, of those without records in this batch that were read up to there. A partition
        that is missing is busy.
        """
        self._since = {p: at for p, at in self._since.items() if p in ends}
        self._at_end &= ends.keys()
        now = self._now()
        if self._looking is None or not self._looking.is_alive():
            seen, self._seen = self._seen, None
            if isinstance(seen, Unavailable):
                self._outage.says(str(seen))
            elif seen is not None:
                self._outage.ends()
                self._seen_at = self._began_at
                quiet = {p for p, end in seen.items() if p in self._at_end and ends[p] >= end}
                self._since = idleness.observe(self._since, quiet, self._seen_at)
            if now - self._began_at >= _LOOK_EVERY_S and ends:
                self._began_at, self._at_end = now, frozenset(ends)
                # A daemon: the end of the program does not wait for a broker.
                self._looking = threading.Thread(target=self._see, args=(tuple(ends),), name="upstream", daemon=True)
                self._looking.start()
        if now - self._seen_at > _OLD_S:
            self._since = {}
        return idleness.idle(self._since, self._seen_at, self._timeout_s)

    def _see(self, partitions: tuple[int, ...]) -> None:
        try:
            self._seen = self._look(partitions)
        except Unavailable as error:
            self._seen = error
