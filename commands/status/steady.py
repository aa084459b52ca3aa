"""Steady figures at a steady rate, from statuses that are read one after another.

Two things make steady figures swing. A commit that comes a moment late makes `produced`, which is what was cleaned plus
the lag, count records twice. And a reading between two batches shows half a batch as lag.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from commands.status.lag import CONSUMES
from commands.status.status import Status
from retail_stream.kafka.clients import admin
from retail_stream.kafka.offsets import TopicPartitionKey, latest_offsets, topic_partitions
from retail_stream.kafka.reading import count_records
from retail_stream.settings import Connections
from retail_stream.topics import Group

#: Seconds over which rates are taken, and those over which the least lag counts.
RATE_OVER_S, LAG_OVER_S = 10.0, 5.0
#: Offsets of a partition up to which the records of one step are counted; beyond, transaction markers are few.
_COUNTED = 500


class Arrivals:
    """Counts the records that come to the raw topics. It looks at those topics only, so no commit moves it."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing until it is called."""
        self._connections = connections
        self._passed: dict[TopicPartitionKey, int] = {}
        self._counted = 0

    def __call__(self) -> int:
        """Records since the first call. Those of an open transaction come with a later call.

        Raises:
            Unavailable: no broker answers.
        """
        places = topic_partitions(self._connections, *CONSUMES[Group.CLEANER])
        ends = latest_offsets(self._connections, admin(self._connections), places, committed=True)
        new = {place: range(self._passed[place], end) for place, end in ends.items() if place in self._passed}
        # A topic that was made anew begins again.
        counts = count_records(self._connections, {p: r for p, r in new.items() if len(r)}, most=_COUNTED)
        self._counted += sum(max(0, n) for n in counts.values())
        self._passed = ends
        return self._counted


class Least:
    """The least lag of each group over the last five seconds: one that lasts for a moment is a batch in work."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self._seen: deque[tuple[float, Mapping[Group, int]]] = deque()

    def next(self, at_s: float, lag: Mapping[Group, int]) -> dict[Group, int]:
        """What is shown of a lag. ``at_s``: seconds of any one clock."""
        self._seen.append((at_s, lag))
        while at_s - self._seen[0][0] > LAG_OVER_S:
            self._seen.popleft()
        return {group: min(seen.get(group, n) for _, seen in self._seen) for group, n in lag.items()}


class Steady:
    """Turns each status into what is shown, and the status before it that rates are taken from."""

    def __init__(self, arrivals: Callable[[], int] | None = None) -> None:
        """``arrivals``: how many records came so far; without it `produced` stays as it was read."""
        self._arrivals = arrivals
        self._base = 0
        self._seen: deque[Status] = deque()
        self._least = Least()

    def next(self, now: Status) -> tuple[Status, Status]:
        """What is shown of a status, and the one up to ten seconds before it; the same for the first.

        Raises:
            Unavailable: the records that came cannot be counted, because no broker answers.
        """
        if self._arrivals is not None:
            counted = self._arrivals()
            # With nothing in flight the sum is exact.
            if not self._seen or not now.lag.get(Group.CLEANER):
                self._base = now.produced - counted
            now = replace(now, produced=counted)
        self._seen.append(now)
        while len(self._seen) > 2 and (now.at - self._seen[0].at).total_seconds() > RATE_OVER_S:
            self._seen.popleft()
        lag = self._least.next(now.at.timestamp(), now.lag)
        before = self._seen[0]
        return (
            replace(now, lag=lag, produced=self._base + now.produced),
            replace(before, produced=self._base + before.produced),
        )
