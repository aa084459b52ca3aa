"""Loads everything that a score needs, in an order in which nothing on its way can look missed.

1  the cleaner's committed offsets, if it has any     records before them are clean or dead letters by now
2  the warehouse, in one snapshot                     its positions say which clean records it contains
3  the ledger and the pipeline's topics               with what the warehouse had still to publish
4  the raw records that the ledger names               with the rules that judged them
"""

from collections.abc import Mapping, Sequence

import polars as pl

from commands.audit import engine as duck
from commands.audit import rule_sets, snapshot
from commands.audit.avro import Decoder
from commands.audit.reading import ends, load
from commands.audit.results import OutboxRecord
from commands.audit.rule_sets import RuleSets
from commands.progress import Shown
from commands.score import rules, warehouse
from commands.score.tables import planted_tables, tables
from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka.offsets import committed_offsets, first_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

#: topic → decoder of its values
Decoders = dict[str, Decoder]


def gather(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    """Fill the engine's tables.

    Raises:
        Unavailable: a server did not answer for 30 s; or records that a score needs were deleted.
        RetailStreamError: the database lacks the warehouse's tables.
    """
    progress.say("asking for offsets")
    _require_all(connections)
    wait_for(lambda: _committed(connections, engine), COMMAND_PATIENCE_S)
    progress.say("reading the warehouse")
    postgres_engine = postgres.engine(connections.database_url)
    try:
        unpublished = snapshot.patiently(lambda: warehouse.take(postgres_engine, engine))
    finally:
        postgres_engine.dispose()
    decoders = _decoders(connections)
    _topics(connections, engine, decoders, unpublished, progress)
    # After the topics' ends: the rules of every record before them are published by now.
    books = rule_sets.read(connections)
    _planted(connections, engine, decoders, books, progress)
    for book in books.values():
        rules.expect(engine, book)


def _require_all(connections: Connections) -> None:
    """Check that no log lacks its first records: what became of a fault that was there could not be told."""
    names = [f(e) for e in Entity for f in (topics.raw, topics.clean, topics.dlq)]
    places = wait_for(lambda: topic_partitions(connections, *names, Result.FAULTS, Result.LATE), COMMAND_PATIENCE_S)
    for (topic, partition), first in wait_for(lambda: first_offsets(connections, places), COMMAND_PATIENCE_S).items():
        if first > 0:
            raise Unavailable(
                f"Kafka has deleted the records of {topic}/{partition} before offset {first:,}; a score needs all "
                "records of the raw, clean and dead letter topics, of sales.late and of generator.faults. "
                "`retail-stream verify` compares what is left."
            )


def _committed(connections: Connections, engine: duck.Engine) -> None:
    """Make ``passed``: entity, partition → the raw offset that the cleaner has committed."""
    places = topic_partitions(connections, *map(topics.raw, Entity))
    committed = committed_offsets(connections, Group.CLEANER, places)
    rows = [(topic.removesuffix(".raw"), partition, offset) for (topic, partition), offset in committed.items()]
    schema: dict[str, pl.DataType] = {"entity": pl.String(), "partition": pl.Int64(), "upto": pl.Int64()}
    duck.create(engine, "passed", schema)
    duck.insert(engine, "passed", pl.DataFrame(rows, schema=schema, orient="row"))


def _decoders(connections: Connections) -> Decoders:
    registry = Registry(connections.schema_registry_url)

    def decoder(topic: str) -> Decoder:
        versions = wait_for(lambda: registry.versions(topics.topic(topic).subject), COMMAND_PATIENCE_S)
        return Decoder(topics.topic(topic).schema(), dict(versions.values()))

    names = [Result.FAULTS.value, Result.WATERMARKS.value, *map(topics.raw, Entity), *map(topics.clean, Entity)]
    return {topic: decoder(topic) for topic in names}


def _topics(
    connections: Connections,
    engine: duck.Engine,
    decoders: Decoders,
    unpublished: Mapping[Result, Sequence[OutboxRecord]],
    progress: Shown,
) -> None:
    by_topic = tables(engine, decoders)
    until = wait_for(lambda: ends(connections, by_topic), COMMAND_PATIENCE_S)
    load(connections, until, by_topic, progress, "reading the topics, records")
    for topic, records in unpublished.items():
        by_topic[topic].take(records)


def _planted(
    connections: Connections,
    engine: duck.Engine,
    decoders: Decoders,
    books: Mapping[Entity, RuleSets],
    progress: Shown,
) -> None:
    """Load the raw topics, up to the last record of each partition that the ledger names."""
    raw_ends = wait_for(lambda: ends(connections, map(topics.raw, Entity)), COMMAND_PATIENCE_S)
    named = engine.execute("SELECT entity || '.raw', partition, max(\"offset\") FROM planted GROUP BY ALL").fetchall()
    until = {(topic, p): min(last + 1, raw_ends.get((topic, p), 0)) for topic, p, last in named}
    load(connections, until, planted_tables(engine, decoders, books), progress, "reading what was planted, records")
