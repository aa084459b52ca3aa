"""How long after their event time the newest sales were published."""

from collections import deque
from typing import Any

import numpy as np

from commands.dashboard.topics_tail import Tail
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, schema_id
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import FIELDS, Entity
from retail_stream.settings import Connections

#: Sales in the histogram of delays, and how many of them one update takes from a partition.
SAMPLE, SAMPLE_OF_PARTITION = 2_000, 500
#: Upper bounds of the histogram's bars, seconds; the last bar holds all longer delays.
BOUNDS_S = (0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300)


class Delays:
    """The delays of the newest sales: record timestamp less event time."""

    def __init__(self, connections: Connections, registry: Registry) -> None:
        """``registry``: has the schemas of sales."""
        #: its address, for sentences
        self.registry = registry.url
        topic = topics.topic(topics.clean(Entity.SALES))
        self._tail = Tail(connections, [topic.name], SAMPLE_OF_PARTITION)
        # The registry is asked once: an update never waits for it.
        self._schemas = SubjectSchemas(registry, topic.subject, wait=lambda fetch: fetch())
        self._reader = RecordSchema(topic.schema())
        self._sample: deque[float] = deque(maxlen=SAMPLE)

    def update(self) -> None:
        """Read what has come.

        Raises:
            Unavailable: a server does not answer.
        """
        for messages in self._tail.news():
            values = [m.value() for m in messages]
            schemas = self._schemas.get(map(schema_id, values))
            sales = self._reader.read(values, schemas)
            times = sales.table[FIELDS[Entity.SALES].time].to_numpy() / 1e6
            stamps = np.array([m.timestamp()[1] for m in messages])[sales.rows] / 1e3
            self._sample.extend((stamps - times).tolist())

    def histogram(self) -> dict[str, Any]:
        """The histogram of the sample now; see :func:`histogram`."""
        return histogram(np.array(self._sample))


def histogram(delays: np.ndarray) -> dict[str, Any]:
    """Count ``delays`` (s): ``counts[i]`` are in (``bounds_s[i-1]``, ``bounds_s[i]``], the last above every bound."""
    places = np.searchsorted(BOUNDS_S, delays, side="left")
    counts = np.bincount(places, minlength=len(BOUNDS_S) + 1)
    return {"bounds_s": list(BOUNDS_S), "counts": counts.tolist(), "sampled": int(delays.size)}
