"""Loads everything that a run compares, in an order in which nothing on its way can look lost.

1  the cleaner's committed offsets      records before them are in clean or dead letters by now
2  the ends of the result topics        what stands before them was in the warehouse's outbox before 3
3  one snapshot of the warehouse        its positions say which clean records it contains
4  the ends of clean, dead letters, results, then of raw, and the records before them
"""

from collections.abc import Mapping

import polars as pl
import structlog
from sqlalchemy import Engine

from commands.audit import engine as duck
from commands.audit import rule_sets, snapshot
from commands.audit.avro import Decoder
from commands.audit.raw_table import RawTable
from commands.audit.reading import TopicTable, ends, load
from commands.audit.results import LateTable, RiseTable, WindowTable, outbox_records
from commands.audit.rule_sets import RuleSets
from commands.progress import Shown
from commands.status.lag import CONSUMES
from commands.verify import retained, warehouse
from commands.verify.facts import AGAIN, SOURCES
from commands.verify.shaping import shaping
from commands.verify.tables import CleanTable, DeadLetterTable, recode
from commands.verify.warehouse import BackgroundLoad, export_snapshot
from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, topic_partitions
from retail_stream.kafka.topic_ids import topic_ids
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

#: Joins three dimensions to every fact: Postgres computes it while the topics are read.
_SLOW = "sales_enriched"
_log = structlog.get_logger(__name__)
_RESULTS = (Result.LATE, Result.WINDOWS, Result.WATERMARKS)


def gather(
    connections: Connections, engine: duck.Engine, progress: Shown, begins: Mapping[TopicPartitionKey, int]
) -> Mapping[Entity, RuleSets]:
    """Fill the engine's tables; returns the rule sets that may have judged the records.

    ``begins``: where raw and clean logs begin; 0 of those that are absent.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    progress.say("asking for offsets")
    committed(connections, engine)
    early = wait_for(lambda: ends(connections, _RESULTS), COMMAND_PATIENCE_S)
    postgres_engine = postgres.engine(connections.database_url)
    view = snapshot.patiently(lambda: _warehouse(postgres_engine, engine, progress))
    try:
        books = _topics(connections, engine, progress, begins)
        progress.say(f"reading the warehouse: {_SLOW}")
        _finish(view, postgres_engine, engine)
    finally:
        view.cancel()
        postgres_engine.dispose()
    offsets_table(engine, "published", ("topic", "partition", "end_offset"), early)
    return books


def _finish(view: BackgroundLoad, postgres_engine: Engine, engine: duck.Engine) -> None:
    """Wait for the view. If its session ended, read it in a new snapshot, with the tables that it is made of."""
    try:
        view.result()
    except Unavailable as e:
        _log.warning(f"reads {_SLOW} again, with its tables", why=str(e))

        def again() -> None:
            with snapshot.reading(postgres_engine) as connection:
                for table in SOURCES:
                    snapshot.load(connection, engine, f"{AGAIN}{table}", warehouse.QUERIES[table])
                snapshot.load(connection, engine, _SLOW, warehouse.QUERIES[_SLOW])

        snapshot.patiently(again)


def _topics(
    connections: Connections, engine: duck.Engine, progress: Shown, begins: Mapping[TopicPartitionKey, int]
) -> Mapping[Entity, RuleSets]:
    derived = [*map(topics.clean, Entity), *map(topics.dlq, Entity), *_RESULTS]
    until = wait_for(lambda: ends(connections, derived), COMMAND_PATIENCE_S)
    until |= wait_for(lambda: ends(connections, map(topics.raw, Entity)), COMMAND_PATIENCE_S)
    _topic_ids(connections, engine)
    offsets_table(engine, "ends", ("topic", "partition", "end"), until)
    # After the ends: the rules of every record before them are published by now.
    books = rule_sets.read(connections)
    decoders = Decoders(connections)
    results: dict[Result, TopicTable] = {
        Result.WATERMARKS: RiseTable(engine, decoders.of(Result.WATERMARKS)),
        Result.LATE: LateTable(engine),
        Result.WINDOWS: WindowTable(engine, decoders.of(Result.WINDOWS)),
    }
    tables: dict[str, TopicTable] = {topic.value: table for topic, table in results.items()}
    for entity in Entity:
        tables[topics.raw(entity)] = RawTable(engine, entity, decoders.of(topics.raw(entity)), books[entity])
        tables[topics.clean(entity)] = CleanTable(engine, entity)
        tables[topics.dlq(entity)] = DeadLetterTable(engine, entity)
    load(connections, until, tables, progress, "reading the topics, records", begins)
    retained.require_kept(connections, begins)
    retained.letters(connections, engine, {})
    for result, table in results.items():
        table.take(outbox_records(engine, result))
    for entity in Entity:
        progress.say(f"comparing {topics.clean(entity)}")
        recode(engine, entity, decoders.of(topics.raw(entity)), decoders.of(topics.clean(entity)))
    return books


def _topic_ids(connections: Connections, engine: duck.Engine) -> None:
    """Make ``topic_ids`` (topic, topic_id): the ids that brokers give the topics that the warehouse is filled from."""
    names = [layer(entity) for entity in Entity for layer in (topics.raw, topics.clean, topics.dlq)]
    ids = wait_for(lambda: topic_ids(connections, names), COMMAND_PATIENCE_S)
    schema: dict[str, pl.DataType] = {"topic": pl.String(), "topic_id": pl.String()}
    duck.create(engine, "topic_ids", schema)
    duck.insert(engine, "topic_ids", pl.DataFrame(list(ids.items()), schema=schema, orient="row"))


class Decoders:
    """One decoder per topic, of the schemas that are registered under its subject."""

    def __init__(self, connections: Connections) -> None:
        self._registry = Registry(connections.schema_registry_url)
        self._decoders: dict[str, Decoder] = {}

    def of(self, topic: str) -> Decoder:
        """The decoder of a topic's values; the registry is waited for."""
        if topic not in self._decoders:
            # Clean records are compared with raw ones, so both are decoded into the fields of the raw schema.
            entity, _, layer = topic.partition(".")
            wanted = topics.topic(topics.raw(Entity(entity)) if layer == "clean" else topic).schema()
            subject = topics.topic(topic).subject
            versions = wait_for(lambda: self._registry.versions(subject), COMMAND_PATIENCE_S)
            self._decoders[topic] = Decoder(wanted, dict(versions.values()))
        return self._decoders[topic]


def committed(connections: Connections, engine: duck.Engine) -> None:
    """Make ``committed`` (topic, partition, next_offset): the offsets that the cleaner has committed.

    Raises:
        Unavailable: no broker answered for 30 s.
    """

    def ask() -> dict[TopicPartitionKey, int]:
        raw = topic_partitions(connections, *CONSUMES[Group.CLEANER])
        return committed_offsets(connections, Group.CLEANER, raw)

    offsets_table(engine, "committed", ("topic", "partition", "next_offset"), wait_for(ask, COMMAND_PATIENCE_S))


def offsets_table(
    engine: duck.Engine, name: str, columns: tuple[str, str, str], offsets: dict[TopicPartitionKey, int]
) -> None:
    """Make the table ``name`` of topic, partition and offset, under the names of ``columns``."""
    schema: dict[str, pl.DataType] = dict(zip(columns, (pl.String(), pl.Int64(), pl.Int64()), strict=True))
    rows = [(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    duck.create(engine, name, schema)
    duck.insert(engine, name, pl.DataFrame(rows, schema=schema, orient="row"))


def _warehouse(postgres_engine: Engine, engine: duck.Engine, progress: Shown) -> BackgroundLoad:
    with snapshot.reading(postgres_engine) as connection:
        view = BackgroundLoad(postgres_engine, export_snapshot(connection), engine, _SLOW)
        queries = {table: query for table, query in warehouse.QUERIES.items() if table != _SLOW}
        warehouse.read(connection, engine, progress, queries)
        warehouse.read(connection, engine, progress, warehouse.windows(shaping(engine)))
    return view
