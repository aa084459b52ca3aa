"""Lag: how many records each consumer group has still to read."""

from collections.abc import Mapping

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, end_offsets, topic_partitions
from retail_stream.kafka.reading import count_records
from retail_stream.settings import Connections
from retail_stream.topics import Group

#: The topics that each group consumes; no two groups share one.
CONSUMES: Mapping[Group, tuple[str, ...]] = {
    Group.CLEANER: tuple(topics.raw(e) for e in Entity),
    Group.SCD_MERGER: tuple(topics.clean(e) for e in DIMENSIONS),
    Group.AGGREGATOR: (topics.clean(Entity.SALES),),
}
#: Offsets of a partition up to which its records are counted. At ten transactions a second, each with a marker, offsets
#: would show several times the records that wait; in a longer range markers are few.
_COUNTED = 200


def lags(connections: Connections, stored: Mapping[Group, Mapping[TopicPartitionKey, int]]) -> dict[Group, int]:
    """Lag of every group, in records. Transaction markers are not lag; an open transaction counts as one record.

    A partition with more than 200 offsets left counts them all as records.

    ``stored``: the positions in Postgres of the groups that keep them there. Kafka has copies of them for lag tools.

    Raises:
        Unavailable: no broker answers.
    """
    places = {group: topic_partitions(connections, *names) for group, names in CONSUMES.items()}
    # Before the ends: a group that reads on meanwhile then seems a little behind, never ahead of the end.
    committed = {
        group: stored[group] if group in stored else committed_offsets(connections, group, keys)
        for group, keys in places.items()
    }
    ends = end_offsets(connections, [key for keys in places.values() for key in keys])
    ahead = {key: range(committed[group].get(key, 0), ends[key]) for group, keys in places.items() for key in keys}
    counts = count_records(connections, ahead, most=_COUNTED)
    return {group: sum(counts[key] for key in keys) for group, keys in places.items()}
