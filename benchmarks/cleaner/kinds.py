"""The cleaner's rate for each kind of records, beside that for sales whose bytes pass unchanged.

Customers and stores are written anew, as their clean types differ; of the fourth kind every second sale has a newer
writer's schema; the last are plain sales again, judged by thirty rules. BENCH_RECORDS (1,000,000 of each kind) and
BENCH_ROUNDS (3) say how much.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice

from confluent_kafka import Producer

from benchmarks.cleaner.contestants import OURS, Contestant, contestant
from benchmarks.cleaner.running import check, going_on, say_goal
from benchmarks.cleaner.sales import pool
from benchmarks.cleaner.world import World, world
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients

_BEGIN, _END = 0.15, 0.95
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 300.0
_THIRTY = [[sys.executable, "-m", "benchmarks.cleaner.thirty_rules"]]
_LONG_AGO_US = 1_700_000_000_000_000

Records = Iterator[tuple[bytes, bytes]]


def main() -> int:
    """Print the best rate of each kind and its ratio to that of plain sales."""
    records = int(os.environ.get("BENCH_RECORDS", "1000000"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    thirty = "sales, thirty rules"
    kinds: dict[str, tuple[Entity, Callable[[World], Records], float]] = {
        "sales": (Entity.SALES, _sales, 1.0),
        "customers": (Entity.CUSTOMERS, lambda w: _made(w, Entity.CUSTOMERS, _customer), 0.6),
        "stores": (Entity.STORES, lambda w: _made(w, Entity.STORES, _store), 0.6),
        "sales, half of a newer schema": (Entity.SALES, _half_newer, 0.8),
        thirty: (Entity.SALES, _sales, 0.85),
    }
    best: dict[str, float] = {}
    with world() as w:
        for name, (entity, make, _) in kinds.items():
            before = w.ends(topics.raw(entity))
            _fill(w, topics.raw(entity), islice(make(w), records))
            who = contestant(OURS, w)
            if name == thirty:
                who = replace(who, commands=_THIRTY)
            rates = [_rate(w, who, entity, before, records) for _ in range(rounds)]
            best[name] = max(rates)
            print(f"{name:<32}{best[name]:>12,.0f} records/s", flush=True)
    for name, (_, _, goal) in kinds.items():
        say_goal(f"rate: {name} / sales", best[name] / best["sales"], ">=", goal)
    return 0


def _fill(w: World, topic: str, records: Records) -> None:
    producer: Producer = clients.producer(w.connections, **{"linger.ms": 20})
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def _rate(w: World, who: Contestant, entity: Entity, begins: dict[tuple[str, int], int], records: int) -> float:
    """Records per second over the steady part of one run from these offsets on."""
    outputs = topics.clean(entity), topics.dlq(entity)
    before = w.count(*outputs)
    w.place(who.group, begins)
    with going_on(w, who) as started:

        def wait(share: float) -> tuple[float, int]:
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline:
                check(started)
                if (done := w.count(*outputs) - before) >= share * records:
                    return time.monotonic(), done
                time.sleep(_LOOK_EVERY_S)
            raise TimeoutError(f"{who.name} did not get far: {started[0].last_lines()}")

        (began, first), (ended, last) = wait(_BEGIN), wait(_END)
    return (last - first) / (ended - began)


def _sales(w: World) -> Records:
    return cycle(pool(w))


def _half_newer(w: World) -> Records:
    subject = topics.topic(topics.raw(Entity.SALES)).subject
    schema = topics.topic(topics.raw(Entity.SALES)).schema()
    more = {"name": "channel", "type": ["null", "string"], "default": None}
    newer = Registry(w.connections.schema_registry_url).register(
        subject, {**schema, "fields": [*schema["fields"], more]}
    )
    for i, (key, value) in enumerate(cycle(pool(w))):
        yield key, frame(newer, value[5:] + b"\2\6app") if i % 2 else value


def _made(w: World, entity: Entity, make: Callable[[int], dict[str, object]]) -> Records:
    writer = RecordSchema(topics.topic(topics.raw(entity)).schema())
    subject = topics.topic(topics.raw(entity)).subject
    number = Registry(w.connections.schema_registry_url).register(subject, writer.schema)
    found = [(str(i + 1).encode(), frame(number, encode(writer.plain, make(i + 1)))) for i in range(20_000)]
    return cycle(found)


def _customer(number: int) -> dict[str, object]:
    return {
        "customer_id": number,
        "name": f"Customer {number}",
        "email": None if number % 20 == 0 else f"customer{number}@example.org",
        "address": f"{number} Long Street, Springfield",
        "join_date": _LONG_AGO_US,
        "loyalty_points": number % 1000,
        "phone_number": f"+1 555 {number:07}",
        "age": 18 + number % 70,
        "gender": "F" if number % 2 else "M",
        "last_update_time": _LONG_AGO_US + number,
    }


def _store(number: int) -> dict[str, object]:
    return {
        "store_id": number,
        "name": f"Store {number}",
        "address": f"{number} Market Square, Springfield",
        "manager": None if number % 20 == 0 else f"Manager {number}",
        "open_date": _LONG_AGO_US,
        "status": "Open",
        "phone_number": f"+1 555 {number:07}",
        "last_update_time": _LONG_AGO_US + number,
    }
