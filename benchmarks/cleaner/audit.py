"""What a contestant's clean records lost on the way: so that rates of unequal work are not taken for equal."""

from confluent_kafka import Consumer, Message, TopicPartition

from benchmarks.cleaner.world import PARTITIONS, SALES, World
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name

_ANSWER_S = 10.0


def lost(w: World, clean: str) -> list[str]:
    """Of the last clean record of each partition, compared with the raw one that its header names."""
    found = set()
    reader = clients.consumer(w.connections, "audit")
    try:
        for (topic, partition), end in w.ends(clean).items():
            if end > 0:
                found |= _compare(reader, _record(reader, topic, partition, end - 1))
    finally:
        reader.close()
    return sorted(found)


def _compare(reader: Consumer, made: Message) -> set[str]:
    offset = big_endian(headers_by_name(made).get(SOURCE_OFFSET))
    if offset is None:
        return {"header"}
    for partition in sorted(range(PARTITIONS), key=lambda p: p != made.partition()):
        raw = _record(reader, SALES, partition, offset)
        if raw.value() == made.value():
            same = {
                "partition": partition == made.partition(),
                "key": raw.key() == made.key(),
                "timestamp": raw.timestamp() == made.timestamp(),
            }
            return {name for name, kept in same.items() if not kept}
    return {"bytes"}


def _record(reader: Consumer, topic: str, partition: int, offset: int) -> Message:
    reader.assign([TopicPartition(topic, partition, offset)])
    message = reader.poll(_ANSWER_S)
    assert message is not None, f"{topic}[{partition}] has no offset {offset}"
    return message
