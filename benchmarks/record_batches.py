"""Record batches as columns, against confluent-kafka's messages and aiokafka's records, on the same sales in one run.

CPU time of this process, all its threads, in microseconds a record: the best of rounds that take turns.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition as Place
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from benchmarks.cleaner.world import SCHEMA_FILE, World, world
from benchmarks.decode import payloads
from retail_stream.avro.decode import RecordSchema
from retail_stream.kafka import clients, fetched_record_sets
from retail_stream.kafka.record_batches.added_headers import alike
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.outgoing import build
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set

RECORDS = 500_000
ROUNDS = 5
LIMIT = 1_048_588
_TheirRecords = fetcher.PartitionRecords


def main() -> int:
    """Print what a record costs each of them, in and out."""
    with world() as servers:
        for name in ("sales", "copies"):
            servers.admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        _fill(servers)
        fetched = asyncio.run(_fetch(servers))
        raw = [(found.fetch_offset, b"".join(b.data for b in found.batches)) for found in fetched]
        columns = [piece for found in fetched for piece in pieces(found)]
        reading: dict[str, Callable[[], object]] = {
            "confluent-kafka, consume": lambda: _consume(servers),
            "aiokafka, its records": lambda: _their_records(raw),
            "columns": lambda: _columns(raw),
            "  of which checksums": lambda: [record_set("sales", 0, data, offset) for offset, data in raw],
        }
        writing: dict[str, Callable[[], object]] = {
            "confluent-kafka, produce": lambda: _produce(servers, columns),
            "aiokafka, its builder (lz4 level 9)": lambda: _their_batches(columns),
            "columns, lz4 level 0": lambda: _batches(columns),
        }
        size = sum(len(data) for _, data in raw)
        print(f"{RECORDS:,} sales in {size:,} bytes of lz4 batches; CPU µs a record, best of {ROUNDS} rounds:")
        for title, jobs, ours in (("in", reading, "columns"), ("out", writing, "columns, lz4 level 0")):
            best = _best(jobs)
            for name, cost in best.items():
                print(f"  {title:4}{name:38}{cost:7.3f}   {cost / best[ours]:6.1f} ×")
    return 0


def _best(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            best[name] = min(best[name], (time.process_time() - began) / RECORDS * 1e6)
    return best


def _fill(servers: World) -> None:
    values = payloads(RecordSchema(json.loads(SCHEMA_FILE.read_text())))
    producer = clients.producer(servers.connections)
    for i in range(RECORDS):
        while True:
            try:
                producer.produce("sales", values[i % len(values)], str(i % 50).encode(), 0)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


async def _fetch(servers: World) -> list[RecordSet]:
    fetched_record_sets.install()
    servers_ = servers.connections.kafka_bootstrap_servers
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers_, isolation_level="read_committed", max_partition_fetch_bytes=2**21
    )
    await consumer.start()
    place = Place("sales", 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    found: list[RecordSet] = []
    while await consumer.position(place) < RECORDS:
        found.extend((await consumer.getmany(timeout_ms=250)).get(place, []))
    await consumer.stop()
    return found


def _consume(servers: World) -> None:
    consumer: Consumer = clients.consumer(servers.connections, "benchmark")
    consumer.assign([TopicPartition("sales", 0, 0)])
    left = RECORDS
    while left > 0:
        for message in consumer.consume(10_000, 1.0):
            if message.error() is None:
                message.offset(), message.timestamp(), message.key(), message.value(), message.headers()
                left -= 1
    consumer.close()


def _their_records(raw: list[tuple[int, bytes]]) -> None:
    for offset, data in raw:
        for _ in _TheirRecords(Place("sales", 0), MemoryRecords(data), [], offset, None, None, True, 1):
            pass


def _columns(raw: list[tuple[int, bytes]]) -> None:
    for offset, data in raw:
        for _ in pieces(record_set("sales", 0, data, offset)):
            pass


def _records(columns: list[Columns]) -> Iterator[tuple[bytes | None, bytes | None, int, int]]:
    for piece in columns:
        offsets, timestamps = piece.offset.tolist(), piece.timestamp.tolist()
        for row in range(len(piece)):
            yield piece.key(row), piece.value(row), offsets[row], timestamps[row]


def _produce(servers: World, columns: list[Columns]) -> None:
    producer = clients.producer(servers.connections)
    for key, value, offset, timestamp in _prepared(columns):
        headers = [("source.offset", offset.to_bytes(8, "big"))]
        while True:
            try:
                producer.produce("copies", value, key, 0, timestamp=timestamp, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def _their_batches(columns: list[Columns]) -> None:
    builder, count = None, 0
    for key, value, offset, timestamp in _prepared(columns):
        headers = [("source.offset", offset.to_bytes(8, "big"))]
        if builder is None:
            builder, count = DefaultRecordBatchBuilder(2, 3, 0, -1, -1, -1, LIMIT), 0
        if builder.append(count, timestamp, key, value, headers) is None:
            builder.build()
            builder = DefaultRecordBatchBuilder(2, 3, 0, -1, -1, -1, LIMIT)
            count = 0
            builder.append(count, timestamp, key, value, headers)
        count += 1
    if builder is not None:
        builder.build()


_kept: list[tuple[bytes | None, bytes | None, int, int]] = []


def _prepared(columns: list[Columns]) -> list[tuple[bytes | None, bytes | None, int, int]]:
    """The records as Python objects, made once: what they cost belongs to reading."""
    if not _kept:
        _kept.extend(_records(columns))
    return _kept


def _batches(columns: list[Columns]) -> None:
    for piece in columns:
        added = alike(len(piece), [], {"source.offset": piece.offset})
        for batch in build(piece, np.arange(len(piece)), added, LIMIT).batches:
            batch.encode()
