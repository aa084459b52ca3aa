"""Record sets of a real broker: what confluent-kafka reads, and what both clients read of batches built here."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition as Place
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from retail_stream.kafka import fetched_record_sets
from retail_stream.kafka.record_batches.added_headers import alike
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.outgoing import build
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import as_records, batch

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)
    fetched_record_sets.install()


@pytest.fixture
def new_topic(kafka: str) -> Iterator[Callable[..., str]]:
    admin, made = AdminClient({"bootstrap.servers": kafka}), []

    def make(**config: str) -> str:
        name = f"batches-{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(name, 1, 1, config=settings)])[name].result(30)
        made.append(name)
        return name

    yield make
    for name, done in admin.delete_topics(made).items():
        done.result(30), name


def producer(kafka: str, **config: Any) -> Producer:
    return Producer({"bootstrap.servers": kafka, "linger.ms": 2, **config})


def by_confluent(kafka: str, topic: str, start: int = OFFSET_BEGINNING) -> list[Record]:
    """All committed records, as librdkafka reads them."""
    config = {"bootstrap.servers": kafka, "group.id": "x", "enable.partition.eof": True}
    consumer = Consumer({**config, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, start)])
    read = []
    while not (message := consumer.poll(30)).error():
        headers = tuple((name.encode(), value) for name, value in message.headers() or ())
        read.append(Record(message.offset(), message.timestamp()[1], message.key(), message.value(), headers))
    consumer.close()
    return read


async def record_sets(kafka: str, topic: str, start: int, end: int, **config: Any) -> list[RecordSet]:
    """Record sets from `start` until the position is `end`, fetched in small parts."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **{"max_partition_fetch_bytes": 20_000, **config},
    )
    await consumer.start()
    place = Place(topic, 0)
    consumer.assign([place])
    consumer.seek(place, start)
    found: list[RecordSet] = []
    try:
        async with asyncio.timeout(60):
            while await consumer.position(place) < end:
                found.extend((await consumer.getmany(timeout_ms=250)).get(place, []))
    finally:
        await consumer.stop()
    return found


def fill(kafka: str, topic: str, rng: random.Random) -> int:
    """Transactions committed, aborted and left open among single batches, all codecs. The end of what is readable."""
    plain = [producer(kafka, **{"compression.type": codec}) for codec in CODECS]
    inside = [producer(kafka, **{"compression.type": c, "transactional.id": f"{topic}-{c}"}) for c in CODECS]
    for one in inside:
        one.init_transactions(30)

    def send(one: Producer) -> None:
        for _ in range(rng.randint(1, 60)):
            one.produce(
                topic,
                None if rng.random() < 0.1 else rng.randbytes(rng.choice([0, 10, 300])),
                None if rng.random() < 0.2 else rng.randbytes(5),
                0,
                headers=[("h", rng.choice([None, b"", b"v" * 100]))] * rng.randint(0, 2),
                timestamp=int(time.time() * 1000) - rng.randrange(10**7),
            )
        one.flush()

    started: set[Producer] = set()
    for _ in range(80):
        one = rng.choice(plain + inside)
        if one in inside and one not in started:
            one.begin_transaction()
            started.add(one)
        send(one)
        if one in started and rng.random() < 0.6:
            (one.commit_transaction if rng.random() < 0.5 else one.abort_transaction)(30)
            started.discard(one)
    for one in started:
        one.abort_transaction(30)
    reader = Consumer({"bootstrap.servers": kafka, "group.id": "x"})
    _, end = reader.get_watermark_offsets(TopicPartition(topic, 0), 30)
    reader.close()
    inside[0].begin_transaction()
    send(inside[0])
    send(plain[0])  # behind an open transaction: not to be read yet
    return int(end)


def columns_of(found: list[RecordSet]) -> list[Columns]:
    return [columns for records in found for columns in pieces(records)]


@pytest.mark.usefixtures("hooked")
def test_all_codecs_and_transactions_are_read_as_librdkafka_reads_them(kafka, new_topic):
    topic, rng = new_topic(), random.Random(5)
    end = fill(kafka, topic, rng)
    expected = by_confluent(kafka, topic)
    assert len(expected) > 500
    read = [r for c in columns_of(asyncio.run(record_sets(kafka, topic, 0, end))) for r in as_records(c)]
    assert read == expected
    for start in rng.sample(range(end), 5):
        found = asyncio.run(record_sets(kafka, topic, start, end))
        assert [r for c in columns_of(found) for r in as_records(c)] == [r for r in expected if r.offset >= start]


@pytest.mark.usefixtures("hooked")
def test_a_broker_stores_what_was_built_and_every_client_reads_it(kafka, new_topic):
    """Records of any codec, forwarded with two headers more in batches of at most 30,000 bytes."""
    topic, target, rng = new_topic(), new_topic(max_message_bytes="30000"), random.Random(6)
    end = fill(kafka, topic, rng)
    columns = columns_of(asyncio.run(record_sets(kafka, topic, 0, end)))
    batches = []
    for piece in columns:
        rows = np.arange(len(piece))
        added = alike(len(piece), [("rules.version", b"7")], {"source.offset": piece.offset})
        made = build(piece, rows, added, 30_000)
        assert made.too_large.tolist() == []
        batches += [b.encode() for b in made.batches]
    asyncio.run(send_raw(kafka, target, batches))
    forwarded = [
        (r.timestamp, r.key, r.value, (*r.headers, (b"rules.version", b"7"), (b"source.offset", r.offset.to_bytes(8))))
        for piece in columns
        for r in as_records(piece)
    ]
    for read in (
        by_confluent(kafka, target),
        [r for c in columns_of(asyncio.run(record_sets(kafka, target, 0, len(forwarded)))) for r in as_records(c)],
    ):
        assert [(r.timestamp, r.key, r.value, r.headers) for r in read] == forwarded


async def send_raw(kafka: str, topic: str, batches: list[bytes]) -> None:
    """Produce requests with these batches, one after the other."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.partitions_for(topic)
    leader = producer.client.cluster.leader_for_partition(Place(topic, 0))
    for data in batches:
        request = ProduceRequest(None, -1, 30_000, [(topic, [(0, data)])])
        response = await producer.client.send(leader, request)
        assert response.topics[0][1][0][1] == 0, response
    await producer.stop()


@pytest.mark.usefixtures("hooked")
def test_the_brokers_timestamps_count_where_the_topic_says_so(kafka, new_topic):
    topic = new_topic(message_timestamp_type="LogAppendTime")
    one = producer(kafka, **{"compression.type": "zstd"})
    for i in range(20):
        one.produce(topic, b"v%d" % i, timestamp=1000 + i)
    one.flush()
    read = [r for c in columns_of(asyncio.run(record_sets(kafka, topic, 0, 20))) for r in as_records(c)]
    assert read == by_confluent(kafka, topic)
    assert min(r.timestamp for r in read) > 10**12


@pytest.mark.usefixtures("hooked")
def test_a_large_text_is_read_though_its_batch_exceeds_the_fetch_size(kafka, new_topic):
    """18 MB of text, which zstd makes smaller than a topic's default limit."""
    topic, text = new_topic(), b"a long text; " * 1_400_000
    one = producer(kafka, **{"compression.type": "zstd", "message.max.bytes": 2**25})
    one.produce(topic, text)
    one.flush()
    (found,) = asyncio.run(record_sets(kafka, topic, 0, 1, max_partition_fetch_bytes=1000, fetch_max_bytes=1000))
    (columns,) = pieces(found)
    assert columns.value(0) == text


@pytest.mark.usefixtures("hooked")
def test_records_without_a_timestamp_stay_so(kafka, new_topic):
    topic = new_topic()
    found = [Record(0, -1, b"k", b"v", ()), Record(1, 0, None, None, ((b"\xff", b"no UTF-8"),))]
    asyncio.run(send_raw(kafka, topic, [batch(found), batch(found[:1])]))
    read = [r for c in columns_of(asyncio.run(record_sets(kafka, topic, 0, 3))) for r in as_records(c)]
    assert read == [*found, Record(2, -1, b"k", b"v", ())]
