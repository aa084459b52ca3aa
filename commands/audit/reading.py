"""Topics from their beginning up to a fixed end, loaded into tables of the engine."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from confluent_kafka import Message

from commands.progress import Shown
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, require_topics, topic_partitions
from retail_stream.kafka.reading import read_patiently
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S


class TopicTable(Protocol):
    """A table of the engine that takes the records of a topic."""

    def take(self, records: Sequence[Any], /) -> None:
        """Append records; those of a partition come in the order of their offsets."""
        ...


def ends(connections: Connections, topics: Iterable[str]) -> dict[TopicPartitionKey, int]:
    """The offset where each partition of each topic ends now (exclusive), open transactions included.

    Raises:
        Unavailable: no broker answers, or a topic is missing.
    """
    names = list(topics)
    require_topics(connections, names)
    return end_offsets(connections, topic_partitions(connections, *names))


def load(
    connections: Connections,
    until: Mapping[TopicPartitionKey, int],
    tables: Mapping[str, TopicTable],
    progress: Shown,
    step: str,
    begins: Mapping[TopicPartitionKey, int] | None = None,
) -> None:
    """Append every committed record before ``until`` to the table of its topic. ``step``: what the progress shows.

    ``begins``: the first offset to read of each partition; 0 of those that are absent.

    Raises:
        Unavailable: no broker answered for 30 s, or a transaction stays open; see
            :func:`retail_stream.kafka.reading.read`.
    """
    ranges = {place: range((begins or {}).get(place, 0), end) for place, end in until.items()}
    taken, total = 0, sum(map(len, ranges.values()))
    progress.say(step)
    for batch in read_patiently(connections, ranges, COMMAND_PATIENCE_S):
        for topic, records in groupby(batch, Message.topic):
            tables[topic].take(list(records))
        taken += len(batch)
        progress.count(taken, total)
