"""Everything that a run compares, gathered in an order in which nothing can look lost that was only on its way.

1  the cleaner's committed offsets      records before them must be in clean or dead letters by now
2  the ends of the result topics        what stands before them was in the warehouse's outbox before 3
3  one snapshot of the warehouse        its positions say which clean records it contains
4  the ends of clean, dead letters, results, then of raw, and the records before them
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import polars as pl
from sqlalchemy import Engine

from commands.audit import engine as duck
from commands.audit.avro import Decoder, load
from commands.audit.reading import Ends, ends, read
from commands.audit.results import LateTable, RiseTable, WindowTable, waiting
from commands.progress import Shown
from commands.status.lag import CONSUMES
from commands.verify import snapshot
from commands.verify.tables import CleanTable, DeadTable, RawTable, reader, recode
from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group, Result
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres


class Table(Protocol):
    """Where the records of a topic go."""

    def take(self, records: Sequence[Any], /) -> None: ...


#: Joins three dimensions to every fact: Postgres works at it while the topics are read.
_SLOW = "sales_enriched"
_RESULTS = (Result.LATE, Result.WINDOWS, Result.WATERMARKS)


def gather(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    """Fill the engine's tables.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    progress.say("asking for offsets")
    _committed(connections, engine)
    early = wait_for(lambda: ends(connections, _RESULTS), COMMAND_PATIENCE_S)
    warehouse = postgres.engine(connections.database_url)
    view = wait_for(lambda: _warehouse(warehouse, engine, progress), COMMAND_PATIENCE_S)
    try:
        _topics(connections, engine, progress)
        progress.say(f"reading the warehouse: {_SLOW}")
        view.result()
    finally:
        view.cancel()
        warehouse.dispose()
    _table(engine, "published", ("topic", "partition", "end_offset"), _rows(early))


def _topics(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    late_topics = [*map(topics.clean, Entity), *map(topics.dlq, Entity), *_RESULTS]
    until = dict(wait_for(lambda: ends(connections, late_topics), COMMAND_PATIENCE_S))
    until.update(wait_for(lambda: ends(connections, map(topics.raw, Entity)), COMMAND_PATIENCE_S))
    decoders = _Decoders(connections)
    told: dict[Result, Table] = {
        Result.WATERMARKS: RiseTable(engine, decoders.of(Result.WATERMARKS)),
        Result.LATE: LateTable(engine),
        Result.WINDOWS: WindowTable(engine, decoders.of(Result.WINDOWS)),
    }
    tables: dict[str, Table] = {topic.value: table for topic, table in told.items()}
    for entity in Entity:
        tables[topics.raw(entity)] = RawTable(engine, entity, decoders.of(topics.raw(entity)))
        tables[topics.clean(entity)] = CleanTable(engine, entity)
        tables[topics.dlq(entity)] = DeadTable(engine, entity)
    total = sum(end for places in until.values() for end in places.values())
    take = {topic: table.take for topic, table in tables.items()}
    progress.say("reading the topics, records")
    read(connections, until, take, lambda n: progress.count(n, total))
    for result, table in told.items():
        table.take(waiting(engine, result))
    for entity in Entity:
        progress.say(f"comparing {topics.clean(entity)}")
        recode(engine, entity, decoders.of(topics.raw(entity)), decoders.of(topics.clean(entity)))


class _Decoders:
    """One decoder per topic, of the schemas that are registered under its subject."""

    def __init__(self, connections: Connections) -> None:
        self._registry = Registry(connections.schema_registry_url)
        self._decoders: dict[str, Decoder] = {}

    def of(self, topic: str) -> Decoder:
        if topic not in self._decoders:
            entity, _, layer = topic.partition(".")
            layout = (
                reader(Entity(entity)) if layer in ("raw", "clean") else load(SCHEMAS / "results" / f"{topic}.avsc")
            )
            versions = wait_for(lambda: self._registry.versions(f"{topic}-value"), COMMAND_PATIENCE_S)
            self._decoders[topic] = Decoder(layout, {number: dict(schema) for number, schema in versions.values()})
        return self._decoders[topic]


def _committed(connections: Connections, engine: duck.Engine) -> None:
    def ask() -> dict[TopicPartitionKey, int]:
        raw = topic_partitions(connections, *CONSUMES[Group.CLEANER])
        return committed_offsets(connections, Group.CLEANER, raw)

    rows = [(t, p, o) for (t, p), o in wait_for(ask, COMMAND_PATIENCE_S).items()]
    _table(engine, "committed", ("topic", "partition", "next_offset"), rows)


def _rows(offsets: Ends) -> list[tuple[str, int, int]]:
    return [(t, p, o) for t, places in offsets.items() for p, o in places.items()]


def _table(engine: duck.Engine, name: str, columns: tuple[str, str, str], rows: Iterable[tuple[str, int, int]]) -> None:
    schema = dict(zip(columns, (pl.String(), pl.Int64(), pl.Int64()), strict=True))
    duck.create(engine, name, schema)
    duck.insert(engine, name, pl.DataFrame(list(rows), schema=schema, orient="row"))


def _warehouse(warehouse: Engine, engine: duck.Engine, progress: Shown) -> snapshot.Later:
    with snapshot.reading(warehouse) as connection:
        moment = snapshot.exported(connection)
        view = snapshot.Later(warehouse, moment, engine, _SLOW)
        for table, query in snapshot.QUERIES.items():
            if table != _SLOW:
                progress.say(f"reading the warehouse: {table}")
                snapshot.load(connection, engine, table, query)
    return view
