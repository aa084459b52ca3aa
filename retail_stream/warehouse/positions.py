"""Consumer positions in Postgres, committed in the transaction of the results that they stand for.

A row of ``consumer_positions`` holds, for (group, topic, partition), the next offset, the largest ``source.offset``
seen, and the epoch of the owner. A claim raises the epoch, which is a fencing token: a worker that lost the partition
writes with an old epoch, and its whole transaction rolls back. So does that of a worker that is ahead of the stored
position, as after a restore: what lies between the two would be lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from retail_stream.errors import Fenced
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.topics import Group


@dataclass(frozen=True)
class Position:
    """The stored position of a worker in a partition that it owns.

    ``next_offset``: the first offset not yet in the results. ``source_offset``: the largest ``source.offset`` seen
    in the partition, -1 before the first; a record that carries no larger one is a repeat.
    """

    topic: str
    partition: int
    epoch: int
    next_offset: int
    source_offset: int

    @property
    def key(self) -> TopicPartitionKey:
        """The partition with its topic."""
        return self.topic, self.partition


_CLAIM = text("""
    INSERT INTO consumer_positions AS p (consumer_group, topic, partition, epoch, next_offset, source_offset)
    VALUES (:group, :topic, :partition, 1, 0, -1)
    ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET epoch = p.epoch + 1
    RETURNING epoch, next_offset, source_offset
""")

_ADVANCE = text("""
    UPDATE consumer_positions
    SET next_offset = :next_offset, source_offset = :source_offset, updated_at = now()
    WHERE consumer_group = :group AND topic = :topic AND partition = :partition AND epoch = :epoch
      AND next_offset BETWEEN :known AND :next_offset
""")


def stored(connection: Connection) -> dict[Group, dict[TopicPartitionKey, int]]:
    """The next offsets of every group that keeps its positions here."""
    offsets: dict[Group, dict[TopicPartitionKey, int]] = {Group.SCD_MERGER: {}, Group.AGGREGATOR: {}}
    query = "SELECT consumer_group, topic, partition, next_offset FROM consumer_positions"
    for group, topic, partition, offset in connection.execute(text(query)):
        offsets[Group(group)][topic, partition] = offset
    return offsets


def claim(connection: Connection, group: Group, topic: str, partition: int) -> Position:
    """Become the owner of a partition and fence the owner before; a first claim starts at offset 0."""
    row = connection.execute(_CLAIM, {"group": group, "topic": topic, "partition": partition}).one()
    return Position(topic, partition, *row)


def advance(connection: Connection, group: Group, moves: Iterable[tuple[Position, Position]]) -> None:
    """Store positions, in a fixed order so that two workers cannot deadlock.

    ``moves``: (as the worker knows it, the new one). A move whose commit was not answered may be repeated.

    Raises:
        Fenced: another worker owns one of the partitions, or the stored position lies before the one that the worker
            knows, as after a restore; the caller's transaction must roll back.
    """
    for known, p in sorted(moves, key=lambda move: move[1].key):
        if connection.execute(_ADVANCE, {"group": group, "known": known.next_offset, **vars(p)}).rowcount != 1:
            raise Fenced(
                f"{p.topic}/{p.partition} has another owner than epoch {p.epoch} of group {group}, or another position "
                f"than {known.next_offset:,}."
            )


def require_owner(connection: Connection, group: Group, positions: Iterable[Position]) -> None:
    """Check that the stored epochs are still those of these positions.

    Raises:
        Fenced: another worker owns one of the partitions, or the warehouse was emptied.
    """
    query = "SELECT topic, partition, epoch FROM consumer_positions WHERE consumer_group = :group"
    epochs = {
        (topic, partition): epoch for topic, partition, epoch in connection.execute(text(query), {"group": group})
    }
    for p in positions:
        if epochs.get(p.key) != p.epoch:
            raise Fenced(f"{p.topic}/{p.partition} has another owner than epoch {p.epoch} of group {group}.")
