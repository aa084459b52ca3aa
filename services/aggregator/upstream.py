"""Whether anything is on its way to a partition of `sales.clean`: an outage upstream is not quiet."""

from collections.abc import Iterable, Mapping

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, end_offsets
from retail_stream.kafka.reading import count_records
from retail_stream.settings import Connections
from retail_stream.topics import Group

_RAW = topics.raw(Entity.SALES)
_CLEAN = topics.clean(Entity.SALES)


class Upstream:
    """Looks at the cleaner's lag, with the broker's own offsets."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        #: Offsets of a raw partition, from the committed one to the end, that hold no record: transaction markers only.
        self._markers: dict[TopicPartitionKey, range] = {}

    def drained(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Of these partitions, those of which the cleaner has handled all of `sales.raw`: → end of `sales.clean`.

        Whoever has read up to that end has read all that was published before this call.

        Raises:
            Unavailable: no broker answers, so nothing is known.
        """
        # The order matters: what the cleaner committed lies, cleaned, before an end that is asked for afterwards.
        asked = [(topic, p) for p in partitions for topic in (_RAW, _CLEAN)]
        raw = [place for place in asked if place[0] == _RAW]
        committed = committed_offsets(self._connections, Group.CLEANER, raw)
        ends = end_offsets(self._connections, asked)
        ahead = {place: range(committed.get(place, 0), ends[place]) for place in raw}
        asks = {place: offsets for place, offsets in ahead.items() if self._markers.get(place) != offsets}
        left = count_records(self._connections, asks)
        self._markers.update({place: offsets for place, offsets in asks.items() if left[place] <= 0})
        return {p: ends[_CLEAN, p] for topic, p in raw if left.get((topic, p), 0) <= 0}
