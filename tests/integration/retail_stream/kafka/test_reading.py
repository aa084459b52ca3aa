"""Reading offsets of partitions from a real broker: where a read starts, what it waits for, and where it ends."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest
from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from retail_stream.errors import Unavailable
from retail_stream.kafka import reading
from retail_stream.kafka.reading import count_records, read, read_to_end, record_at
from retail_stream.kafka.record_batches.reference import Record
from retail_stream.settings import Connections
from tests.harness.record_batches import batch, store
from tests.harness.servers import Servers
from tests.integration.services.cleaner.transport import Log

NewLog = Callable[[int], Log]


@pytest.fixture(scope="module")
def connections(stack: Servers) -> Connections:
    """The session's broker; no topic and no table is needed."""
    return Connections.model_validate({name.lower(): value for name, value in stack.env.items()})


def values(messages: Iterable[Message]) -> list[int]:
    return [int(m.value() or b"") for m in messages]


def flat(batches: Iterable[list[Message]]) -> list[int]:
    return values(m for batch in batches for m in batch)


@contextmanager
def open_transaction(log: Log, partition: int, count: int) -> Iterator[Producer]:
    """``count`` records of a transaction that is open until the test ends it, at the latest when the context ends."""
    producer = log.producer(**{"transactional.id": uuid.uuid4().hex})
    producer.init_transactions()
    producer.begin_transaction()
    log.append(producer, partition, count)
    producer.flush()
    yield producer
    with suppress(KafkaException):  # it was ended meanwhile
        producer.abort_transaction()


@pytest.mark.parametrize("behind", [0, 1], ids=["at the end", "before a record"])
@pytest.mark.parametrize("commits", [True, False])
def test_a_read_waits_for_a_transaction_that_is_open(
    connections: Connections, new_log: NewLog, commits: bool, behind: int
) -> None:
    log = new_log(2)
    log.fill(3)
    with open_transaction(log, 1, 2) as producer:
        plain = log.producer()
        log.append(plain, 1, behind)
        plain.flush()
        ends_it = threading.Timer(1.0, producer.commit_transaction if commits else producer.abort_transaction)
        ends_it.start()
        found = values(m for m in read_to_end(connections, log.topic) if m.partition() == 1)
        ends_it.join()
    assert found == [0, 1, 2, *([3, 4] if commits else []), *range(5, 5 + behind)]


def test_a_read_ends_where_the_partitions_ended_when_it_began(connections: Connections, new_log: NewLog) -> None:
    log = new_log(2)
    log.fill(500)
    producer, found = log.producer(), []
    for message in read_to_end(connections, log.topic):
        found.append(message)
        for partition in log.all():
            log.append(producer, partition, 3)
        producer.flush()
        assert len(found) <= 1000, "it follows the partitions"
    assert {p: values(m for m in found if m.partition() == p) for p in log.all()} == {p: [*range(500)] for p in (0, 1)}


def test_a_range_holds_its_first_offset_and_not_its_stop(connections: Connections, new_log: NewLog) -> None:
    log = new_log(4)
    log.fill(10)
    topic = log.topic
    ranges = {(topic, 0): range(4, 7), (topic, 1): range(9, 10), (topic, 2): range(3, 3)}
    found = [m for batch in read(connections, ranges) for m in batch]
    assert sorted((m.partition(), m.offset()) for m in found) == [(0, 4), (0, 5), (0, 6), (1, 9)]


def test_the_record_at_an_offset_is_that_one_or_none(connections: Connections, new_log: NewLog) -> None:
    log = new_log(1)
    log.transaction(0, 1, commit=False)
    log.fill(1)
    found = [record_at(connections, (log.topic, 0), offset) for offset in range(3)]
    assert [None if m is None else m.offset() for m in found] == [None, None, 2]


@pytest.mark.parametrize("commits", [True, False])
def test_markers_and_aborted_records_before_the_stop_count_as_read(
    connections: Connections, new_log: NewLog, commits: bool
) -> None:
    log = new_log(1)
    log.fill(2)
    log.transaction(0, 3, commit=commits)
    expected = [0, 1, 2, 3, 4] if commits else [0, 1]
    # Wherever the stop lies: behind the marker (6), before it (5), or among what was aborted (3).
    assert flat(read(connections, {(log.topic, 0): range(6)})) == expected
    assert flat(read(connections, {(log.topic, 0): range(5)})) == expected
    assert flat(read(connections, {(log.topic, 0): range(3)})) == expected[:3]
    assert flat(read(connections, {(log.topic, 0): range(5, 6)})) == []


def test_a_log_that_begins_behind_the_first_offset_is_read_from_its_earliest_record(
    connections: Connections, new_log: NewLog
) -> None:
    log = new_log(2)
    log.fill(10)
    deleted = log.admin.delete_records([TopicPartition(log.topic, 0, 8), TopicPartition(log.topic, 1, 10)])
    for future in deleted.values():
        future.result(30)
    assert values(read_to_end(connections, log.topic)) == [8, 9]


def test_a_transaction_that_stays_open_is_one_sentence(
    connections: Connections, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SILENCE_S", 0.2)
    monkeypatch.setattr(reading, "OPEN_TRANSACTION_S", 1.0)
    log = new_log(1)
    log.fill(2)
    held = rf"^Kafka: an open transaction has held back the records of {log.topic}/0 from offset 2 on for \d+ s; end "
    with open_transaction(log, 0, 1):
        batches = read(connections, {(log.topic, 0): range(3)})
        assert values(next(batches)) == [0, 1]
        with pytest.raises(Unavailable, match=held):
            next(batches)


def test_only_records_count(connections: Connections, new_log: NewLog) -> None:
    log = new_log(5)
    log.transaction(0, 2, commit=True)
    log.transaction(1, 2, commit=False)
    log.fill(1)
    with open_transaction(log, 2, 1):
        ranges = {
            (log.topic, 0): range(1, 3),  # a record, then a marker
            (log.topic, 1): range(1, 3),  # an aborted record, then a marker
            (log.topic, 2): range(1, 2),  # a record of an open transaction
            (log.topic, 3): range(1, 1),  # nothing
            (log.topic, 4): range(9),  # too many to look
        }
        counts = count_records(connections, ranges)
    assert [counts[log.topic, p] for p in log.all()] == [1, 0, 1, 0, 9]


def test_a_batch_that_expands_to_130_mb_is_read(connections: Connections, new_log: NewLog) -> None:
    log = new_log(1)
    found = [Record(i, 0, None, bytes(130_000_000 if i == 1 else 1), ()) for i in range(3)]
    store(connections, log.topic, batch(found, "zstd"))
    assert [len(m.value() or b"") for m in read_to_end(connections, log.topic)] == [1, 130_000_000, 1]
