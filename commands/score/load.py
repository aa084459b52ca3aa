"""Everything that a score needs, gathered so that nothing can look missed that was only on its way.

1  the cleaner's committed offsets, if it has any     records before them must be clean or dead letters by now
2  the warehouse, in one snapshot                     its positions say which clean records it contains
3  the ledger and the pipeline's topics               with what the warehouse had still to publish
4  the raw records that the ledger names
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from commands.audit import engine as duck
from commands.audit.avro import Decoder, load, without_logical_types
from commands.audit.reading import Ends, ends, read
from commands.audit.results import Waiting
from commands.progress import Shown
from commands.score import warehouse
from commands.score.tables import layout, planted_tables, tables
from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka.offsets import committed_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group, Result
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

Decoders = dict[str, Decoder]
Tables = Mapping[str, Any]


def gather(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    """Fill the engine's tables.

    Raises:
        Unavailable: a server did not answer for 30 s.
        RetailStreamError: the warehouse's tables are not there.
    """
    progress.say("asking for offsets")
    wait_for(lambda: _committed(connections, engine), COMMAND_PATIENCE_S)
    progress.say("reading the warehouse")
    postgres_engine = postgres.engine(connections.database_url)
    try:
        unpublished = wait_for(lambda: warehouse.take(postgres_engine, engine), COMMAND_PATIENCE_S)
    finally:
        postgres_engine.dispose()
    decoders = _decoders(connections)
    _topics(connections, engine, decoders, unpublished, progress)
    _planted(connections, engine, decoders, progress)


def _committed(connections: Connections, engine: duck.Engine) -> None:
    """``passed``: entity, partition → the raw offset that the cleaner has come to."""
    places = topic_partitions(connections, *map(topics.raw, Entity))
    found = committed_offsets(connections, Group.CLEANER, places)
    rows = [(topic.removesuffix(".raw"), partition, offset) for (topic, partition), offset in found.items()]
    schema: dict[str, pl.DataType] = {"entity": pl.String(), "partition": pl.Int64(), "upto": pl.Int64()}
    duck.create(engine, "passed", schema)
    duck.insert(engine, "passed", pl.DataFrame(rows, schema=schema, orient="row"))


def _decoders(connections: Connections) -> Decoders:
    registry = Registry(connections.schema_registry_url)

    def decoder(topic: str, schema: dict) -> Decoder:
        versions = wait_for(lambda: registry.versions(f"{topic}-value"), COMMAND_PATIENCE_S)
        return Decoder(schema, {number: dict(writer) for number, writer in versions.values()})

    decoders = {
        topic: decoder(topic, load(SCHEMAS / layer / f"{entity}.avsc"))
        for entity in Entity
        for layer, topic in (("raw", topics.raw(entity)), ("clean", topics.clean(entity)))
    }
    return decoders | {Result.FAULTS.value: decoder(Result.FAULTS, without_logical_types(layout(Result.FAULTS)))}


def _topics(
    connections: Connections, engine: duck.Engine, decoders: Decoders, unpublished: Sequence[Waiting], progress: Shown
) -> None:
    taking: Tables = tables(engine, decoders)
    until = wait_for(lambda: ends(connections, taking), COMMAND_PATIENCE_S)
    _read(connections, until, taking, progress, "reading the topics, records")
    taking[Result.LATE].take(unpublished)


def _planted(connections: Connections, engine: duck.Engine, decoders: Decoders, progress: Shown) -> None:
    """Up to the last record of each partition that the ledger names."""
    there = wait_for(lambda: ends(connections, map(topics.raw, Entity)), COMMAND_PATIENCE_S)
    until: dict[str, dict[int, int]] = {}
    for entity, partition, last in engine.execute(
        'SELECT entity, partition, max("offset") FROM planted GROUP BY ALL'
    ).fetchall():
        end = there.get(f"{entity}.raw", {}).get(partition, 0)
        until.setdefault(f"{entity}.raw", {})[partition] = min(last + 1, end)
    _read(connections, until, planted_tables(engine, decoders), progress, "reading what was planted, records")


def _read(connections: Connections, until: Ends, taking: Tables, progress: Shown, what: str) -> None:
    total = sum(end for places in until.values() for end in places.values())
    take: dict[str, Callable[[Sequence[Any]], None]] = {topic: table.take for topic, table in taking.items()}
    progress.say(what)
    read(connections, until, take, lambda n: progress.count(n, total))
