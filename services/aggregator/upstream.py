"""Whether the cleaner has records on their way to a partition of `sales.clean`: an outage upstream is not quiet."""

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
    """The lag of the cleaner, from the offsets that the broker has."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        #: Offsets of a raw partition, from the committed one to the end, that hold transaction markers only.
        self._markers: dict[TopicPartitionKey, range] = {}

    def drained(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Those partitions whose records in `sales.raw` are all cleaned, each with its end in `sales.clean`.

        A reader at that end has read every record that was published to `sales.raw` before this call.

        Raises:
            Unavailable: no broker answers, so the lag is not known.
        """
        # Committed offsets first: records that the cleaner has committed lie before a clean end that is read later.
        asked = [(topic, p) for p in partitions for topic in (_RAW, _CLEAN)]
        raw = [tp for tp in asked if tp[0] == _RAW]
        committed = committed_offsets(self._connections, Group.CLEANER, raw)
        ends = end_offsets(self._connections, asked)
        ahead = {tp: range(committed.get(tp, 0), ends[tp]) for tp in raw}
        unknown = {tp: offsets for tp, offsets in ahead.items() if self._markers.get(tp) != offsets}
        left = count_records(self._connections, unknown)
        self._markers.update({tp: offsets for tp, offsets in unknown.items() if left[tp] <= 0})
        return {p: ends[_CLEAN, p] for topic, p in raw if left.get((topic, p), 0) <= 0}
