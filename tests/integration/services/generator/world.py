"""The generator as a process, and what it has published."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from commands.init import InitSettings, initialise
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka.clients import admin
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.kafka.reading import read_to_end
from tests.harness.eventually import eventually
from tests.harness.rows import every_row
from tests.harness.servers import Servers, connections_of
from tests.harness.services import ServiceProcess, Services, servers_of

READERS = {e: RecordSchema(json.loads((topics.SCHEMAS / "raw" / f"{e}.avsc").read_text())) for e in Entity}
ID = {e: "transaction_id" if e is Entity.SALES else FIELDS[e].key for e in Entity}
CLEAN = {f"GENERATOR_FAULT_{name}": "0" for name in ("CORRUPT_BYTES", "UNKNOWN_SCHEMA_ID", "DUPLICATE")}
FAST = {"GENERATOR_SALES_PER_S": "1000", "GENERATOR_CHANGES_PER_S": "100"}


class OnTopic(NamedTuple):
    partition: int
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes]] | None


def emptied(stack: Servers) -> InitSettings:
    """Servers with empty topics."""
    settings = InitSettings(**connections_of(stack).model_dump())
    empty_topics(settings)
    return settings


def empty_topics(settings: InitSettings) -> None:
    client, raw = admin(settings), [*map(topics.raw, Entity), topics.Result.FAULTS, topics.Result.STATE]
    there = [t for t in raw if topic_partitions(settings, t)]
    for deleted in client.delete_topics(there).values() if there else ():
        deleted.result()
    eventually(lambda: not topic_partitions(settings, *raw), "the topics are gone")
    initialise(settings)


@contextmanager
def generator(connections: InitSettings, log: Path, **settings: str) -> Iterator[ServiceProcess]:
    with Services({**servers_of(connections), **FAST, "LOG_FORMAT": "json"}, log) as services:
        yield services.start("generator", **settings)


def run(connections: InitSettings, log: Path, **settings: str) -> None:
    with generator(connections, log, **settings) as process:
        assert process.wait(180) == 0, log.read_text()


def logged(log: Path, event: str) -> list[dict]:
    return [line for text in log.read_text().splitlines() if (line := json.loads(text))["event"] == event]


def count(connections: InitSettings, entity: Entity) -> int:
    """How many committed records the raw topic holds. Markers and aborted records take offsets, too."""
    return sum(1 for _ in read_to_end(connections, topics.raw(entity)))


def sales_arrive(connections: InitSettings, more_than: int) -> None:
    eventually(lambda: count(connections, Entity.SALES) > more_than, "sales arrive", every_s=0.2)


def read(connections: InitSettings, entity: Entity) -> list[OnTopic]:
    """All records of the raw topic, in order of partition and offset."""
    messages = sorted(read_to_end(connections, topics.raw(entity)), key=lambda m: (m.partition(), m.offset()))
    return [OnTopic(m.partition(), m.key(), m.value(), m.timestamp()[1], m.headers()) for m in messages]


def places(connections: InitSettings, entity: Entity) -> dict[tuple[int, int], OnTopic]:
    """(partition, offset) → record, for all records of the raw topic."""
    return {
        (m.partition(), m.offset()): OnTopic(m.partition(), m.key(), m.value(), m.timestamp()[1], m.headers())
        for m in read_to_end(connections, topics.raw(entity))
    }


def ledger(connections: InitSettings) -> list[dict]:
    """Ledger entries by entity, each entity's in the order of their offsets: entities may share a partition."""
    reader = RecordSchema(json.loads((topics.SCHEMAS / "results" / "generator.faults.avsc").read_text()))
    messages = sorted(read_to_end(connections, topics.Result.FAULTS), key=lambda m: (m.partition(), m.offset()))
    entries = [entry for entry in every_row(reader, (m.value() for m in messages)) if entry is not None]
    return sorted(entries, key=lambda entry: entry["entity"])


def rows(entity: Entity, records: list[OnTopic]) -> list[dict]:
    return [row for row in every_row(READERS[entity], (r.value for r in records)) if row is not None]
