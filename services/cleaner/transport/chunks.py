"""What an agent gets: the records of one partition that one fetch brought, as one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message


@dataclass(frozen=True, slots=True)
class Chunking:
    """How records become chunks.

    ``linger_s``: how long a read waits for more after its first record; the most that it adds to latency.
    ``grace_s``: how long a rebalance or a stop waits for agents to finish their chunks.
    ``librdkafka``: more settings for the readers, such as security.
    """

    max_records: int = 40_000
    linger_s: float = 0.01
    grace_s: float = 5.0
    librdkafka: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive records of one partition; never empty, offsets ascending, gaps possible (compaction, transactions).

    ``first_offset`` is that of the first record, ``next_offset`` the one after the last. The length stays the same when
    an agent empties ``records`` to free memory early. Two chunks are never equal: one that is read again is another.
    """

    topic: str
    partition: int
    records: list[Message]
    first_offset: int
    next_offset: int
    _length: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_length", len(self.records))

    def __len__(self) -> int:
        return self._length


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of one call of the consumer of one topic.

    ``ends`` holds, for each partition whose end was reached, the offset that its next record can have; it lies past
    transaction markers, which are never records.  ``high_watermarks``: of the partitions with chunks, as of the fetch.
    """

    chunks: list[Chunk]
    ends: dict[int, int]
    high_watermarks: dict[int, int] = field(default_factory=dict)


def split(messages: Sequence[Message]) -> Fetched:
    """Split the result of ``Consumer.consume`` into one chunk for each partition, in order of first appearance.

    Raises KafkaException for an error that the client does not retry by itself.
    """
    ends: dict[int, int] = {}
    if any(map(Message.error, messages)):
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    ends[message.partition()] = message.offset()
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
        messages = [message for message in messages if message.error() is None]
    by_partition: dict[int, list[Message]] = {}
    # A fetch brings the records of a partition in a row.
    for partition, run in groupby(messages, Message.partition):
        by_partition.setdefault(partition, []).extend(run)
    chunks = [
        Chunk(records[0].topic(), partition, records, records[0].offset(), records[-1].offset() + 1)
        for partition, records in by_partition.items()
    ]
    return Fetched(chunks, ends)
