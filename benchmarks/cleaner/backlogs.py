"""The most memory that the cleaner takes for backlogs of records of many sizes, beside its limit in docker-compose.yml.

BENCH_SHARE (1) makes the backlogs smaller: 0.1 for a tenth of the records.
"""

import os
import random
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from benchmarks.cleaner.contestants import OURS, contestant
from benchmarks.cleaner.running import check, going_on, say_goal
from benchmarks.cleaner.world import World, world
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients

_LIMIT_MIB = 448
_PATIENCE_S = 300.0
#: name → records, bytes of a text in each, compression
_BACKLOGS = {
    "60,000 records of 2 kB": (60_000, 2_000, "lz4"),
    "20,000 of 200 kB": (20_000, 200_000, "lz4"),
    "20 of 18 MB": (20, 18_000_000, "zstd"),
    "1,000,000 of 200 bytes": (1_000_000, 50, "lz4"),
}


def main() -> int:
    """Print the peak of resident memory for each backlog and the ratio of the largest to the limit."""
    share = float(os.environ.get("BENCH_SHARE", "1"))
    peaks = {}
    with world() as w:
        for name, (records, size, compression) in _BACKLOGS.items():
            count = max(4, int(records * share))
            begins = w.ends(topics.raw(Entity.PRODUCTS))
            _fill(w, count, size, compression)
            peaks[name] = _peak_mib(w, begins, count)
            print(f"{name:<26}{count:>12,} records{peaks[name]:>8,.0f} MiB at most", flush=True)
    say_goal(f"memory: most of all backlogs / {_LIMIT_MIB} MiB", max(peaks.values()) / _LIMIT_MIB, "<=", 1)
    return 0


def _fill(w: World, records: int, size: int, compression: str) -> None:
    topic = topics.topic(topics.raw(Entity.PRODUCTS))
    writer = RecordSchema(topic.schema())
    number = Registry(w.connections.schema_registry_url).register(topic.subject, writer.schema)
    # Repeated, so that 18 MB are compressed to less than the topic takes.
    words = " ".join(random.Random(size).choices(["wool", "linen", "cotton", "silk", "blue", "green"], k=50_000))
    product = {
        "product_id": 7,
        "name": "Scarf",
        "category": "Clothing",
        "brand": "Warm",
        "price": 9.5,
        "stock_quantity": 3,
        "size": "M",
        "color": "blue",
        "description": (words * (1 + size // len(words)))[:size],
        "last_update_time": 1_700_000_000_000_000,
    }
    value = frame(number, encode(writer.plain, product))
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        refused.extend([] if error is None else [error])

    settings = {"linger.ms": 20, "compression.type": compression, "on_delivery": delivered}
    producer: Producer = clients.producer(w.connections, **settings)
    for i in range(records):
        while True:
            try:
                producer.produce(topic.name, value, b"7", partition=i % 4)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    if refused:
        raise SystemExit(f"{topic.name} does not take the backlog: {refused[0].str()}")


def _peak_mib(w: World, begins: dict[tuple[str, int], int], records: int) -> float:
    who = contestant(OURS, w)
    outputs = topics.clean(Entity.PRODUCTS), topics.dlq(Entity.PRODUCTS)
    before = w.count(*outputs)
    w.place(who.group, begins)
    with going_on(w, who) as started:
        deadline = time.monotonic() + _PATIENCE_S
        while w.count(*outputs) - before < records:
            check(started)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{who.name} did not get far: {started[0].last_lines()}")
            time.sleep(0.1)
        lines = Path(f"/proc/{started[0].pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
