"""Reading a part of a topic, outside any consumer group."""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, Message, TopicPartition

from retail_stream.errors import Unavailable
from retail_stream.kafka.clients import admin, consumer, unavailable
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, latest_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import wait_for

#: Offsets of partitions: each ``range`` holds its first offset and not its stop, as a log end offset is not a record's.
OffsetRanges = Mapping[TopicPartitionKey, range]

#: Seconds without a record and without the end of a partition. Then the broker is asked whether it is there at all.
SILENCE_S = 30.0
#: Seconds that a transaction may hold records back: longer than a broker keeps one open by default, which is a minute.
OPEN_TRANSACTION_S = 90.0
#: A longer range is not read to count its records. A transaction leaves one marker in each partition that it wrote to.
COUNTED_OFFSETS = 3
_BATCH = 10_000
_LINGER_S = 0.05


def read(connections: Connections, ranges: OffsetRanges, **config: Any) -> Iterator[list[Message]]:
    """The committed records of partitions, from the first offset of each range up to, and without, its stop.

    Yields batches of at least one record, each sorted by topic, partition and offset; the records of a partition come
    in the order of their offsets. Ends when every partition was read to its stop: transaction markers, aborted records
    and the gaps that compaction leaves count as read. Waits for a transaction that is open before a stop.

    ``config``: other settings of the consumer.

    Raises:
        Unavailable: the broker is silent for ``SILENCE_S``, a transaction stays open for ``OPEN_TRANSACTION_S``, or
            Kafka reports an error that a client cannot retry.
    """
    left = {place: offsets for place, offsets in ranges.items() if offsets}
    if not left:
        return
    # A new client each time: one that saw a broker die may go on asking it.
    reader = consumer(connections, "retail-stream.reader", **config)
    try:
        # Where a log begins behind the first offset, the broker sends the consumer on to its earliest record.
        reader.assign([TopicPartition(*place, offsets.start) for place, offsets in left.items()])
        heard = asked = time.monotonic()
        while left:
            records, ends = by_partition(reader.consume(_BATCH, _LINGER_S))
            if batch := [m for place in sorted(records.keys() & left) for m in _within(left[place], records[place])]:
                yield batch
            if records or ends:
                heard = asked = time.monotonic()
            elif time.monotonic() - asked > SILENCE_S:
                _ask_why(connections, left, silent_s=time.monotonic() - heard)
                asked = time.monotonic()
            reached = {place: int(some[-1].offset() or 0) + 1 for place, some in records.items()} | ends
            done = [place for place, offset in reached.items() if place in left and offset >= left[place].stop]
            if done:
                reader.pause([TopicPartition(*place) for place in done])
                left = {place: offsets for place, offsets in left.items() if place not in done}
    finally:
        reader.close()


def read_patiently(connections: Connections, ranges: OffsetRanges, patience_s: float) -> Iterator[list[Message]]:
    """As :func:`read`, and goes on behind the last batch when a server is away for less than ``patience_s`` seconds.

    Raises:
        Unavailable: as :func:`read`, for so long without a batch.
    """
    left = dict(ranges)
    batches: Iterator[list[Message]] | None = None

    def following() -> list[Message] | None:
        nonlocal batches
        batches = batches or read(connections, left)
        try:
            return next(batches, None)
        except Unavailable:
            batches = None
            raise

    while batch := wait_for(following, patience_s):
        for m in batch:
            place = _partition_of(m)
            left[place] = range(int(m.offset() or 0) + 1, left[place].stop)
        yield batch


def by_partition(
    messages: Iterable[Message],
) -> tuple[dict[TopicPartitionKey, list[Message]], dict[TopicPartitionKey, int]]:
    """Sort polled messages into records by partition, and the end offsets of partitions that were read to the end.

    Raises:
        Unavailable: the consumer reports an error other than the end of a partition.
    """
    polled = list(messages)
    ends: dict[TopicPartitionKey, int] = {}
    if any(errors := list(map(Message.error, polled))):
        sound = []
        for message, error in zip(polled, errors, strict=True):
            if error is None:
                sound.append(message)
                ends.pop(_partition_of(message), None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[_partition_of(message)] = int(message.offset() or 0)
            elif not error.retriable() and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                raise Unavailable(f"Kafka: {error.str()}.")
        polled = sound
    # A fetch brings long runs of records of one partition; each run is cut out as a whole.
    numbers = {name: i << 32 for i, name in enumerate(dict.fromkeys(map(Message.topic, polled)))}
    runs = np.fromiter(map(Message.partition, polled), np.int64, len(polled))
    if len(numbers) > 1:
        runs += np.fromiter(map(numbers.__getitem__, map(Message.topic, polled)), np.int64, len(polled))
    records: dict[TopicPartitionKey, list[Message]] = {}
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(polled)] if polled else ()):
        records.setdefault(_partition_of(polled[start]), []).extend(polled[start:end])
    return records, ends


def _partition_of(message: Message) -> TopicPartitionKey:
    return str(message.topic()), int(message.partition() or 0)


def read_to_end(connections: Connections, *topics: str, **config: Any) -> Iterator[Message]:
    """Every committed record of topics, up to where each partition ends when the iteration begins; see :func:`read`.

    Raises:
        Unavailable: as :func:`read`, or no broker answers.
    """
    ends = end_offsets(connections, topic_partitions(connections, *topics))
    for batch in read(connections, {place: range(end) for place, end in ends.items()}, **config):
        yield from batch


def record_at(connections: Connections, place: TopicPartitionKey, offset: int) -> Message | None:
    """The committed record at an offset; None where a marker, an aborted record or a gap is.

    Raises:
        Unavailable: as :func:`read`; so it does where the log ends at the offset.
    """
    return next((m for batch in read(connections, {place: range(offset, offset + 1)}) for m in batch), None)


def count_records(
    connections: Connections, ranges: OffsetRanges, most: int = COUNTED_OFFSETS
) -> dict[TopicPartitionKey, int]:
    """How many records each range holds: what a group that committed its first offset has still to read.

    Transaction markers at its end are not records. An open transaction counts as one record and is not waited for.
    A range of more than ``most`` offsets is not read, and counts as many records as offsets. A range whose stop lies
    before its first offset counts negative: the group was ahead of a topic that was made anew.

    Raises:
        Unavailable: as :func:`read`, or no broker answers.
    """
    counts = {place: offsets.stop - offsets.start for place, offsets in ranges.items()}
    short = {place: ranges[place] for place, n in counts.items() if 0 < n <= most}
    if not short:
        return counts
    readable = latest_offsets(connections, admin(connections), short, committed=True)
    counts.update({place: int(readable[place] < offsets.stop) for place, offsets in short.items()})
    closed = {place: range(offsets.start, min(offsets.stop, readable[place])) for place, offsets in short.items()}
    for batch in read(connections, closed):
        for message in batch:
            counts[str(message.topic()), int(message.partition() or 0)] += 1
    return counts


def _within(offsets: range, records: list[Message]) -> Iterable[Message]:
    """The records that a range holds."""
    if records[0].offset() in offsets and records[-1].offset() in offsets:
        return records
    return (m for m in records if m.offset() in offsets)


def _ask_why(connections: Connections, left: OffsetRanges, *, silent_s: float) -> None:
    """Ask the broker about a silence. Returns where a transaction may explain it.

    Raises:
        Unavailable: it does not answer, it has records that it does not send, or the transaction is open for too long.
    """
    readable = latest_offsets(connections, admin(connections), left, committed=True)
    held_back = {place: readable[place] for place, offsets in left.items() if readable[place] < offsets.stop}
    if len(held_back) < len(left):
        raise unavailable(connections)
    if silent_s > OPEN_TRANSACTION_S:
        (topic, partition), offset = min(held_back.items())
        raise Unavailable(
            f"Kafka: an open transaction has held back the records of {topic}/{partition} from offset {offset} on for "
            f"{silent_s:.0f} s; end the producer that opened it, or wait for its timeout, and try again."
        )
