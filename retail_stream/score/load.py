"""Everything that a score needs, gathered so that nothing can look missed that was only on its way.

1  the cleaner's committed offsets, if it has any     records before them must be clean or dead letters by now
2  the warehouse, in one snapshot                     its positions say which clean records it contains
3  the ledger and the pipeline's topics
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl
from sqlalchemy import Connection, Engine, text

from retail_stream import kafka, postgres, topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.progress import Shown
from retail_stream.registry import Registry
from retail_stream.score.tables import layout, tables
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group, Result
from retail_stream.verify import engine as duck
from retail_stream.verify import snapshot
from retail_stream.verify.avro import Decoder, load, without_logical_types
from retail_stream.verify.reading import ends, read
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

_FACTS = "SELECT transaction_id AS id, count(*) AS facts, min(quantity)::int AS quantity FROM fact_sales GROUP BY 1"


def gather(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    """Fill the engine's tables.

    Raises:
        Unavailable: a server did not answer for 30 s.
        RetailStreamError: the warehouse's tables are not there.
    """
    progress.say("asking for offsets")
    wait_for(lambda: _committed(connections, engine), COMMAND_PATIENCE_S)
    warehouse = postgres.engine(connections.database_url)
    try:
        wait_for(lambda: _warehouse(warehouse, engine, progress), COMMAND_PATIENCE_S)
    finally:
        warehouse.dispose()
    _topics(connections, engine, progress)


def _committed(connections: Connections, engine: duck.Engine) -> None:
    """``passed``: entity, partition → the raw offset that the cleaner has come to."""
    places = kafka.partitions(connections, *map(topics.raw, Entity))
    found = kafka.committed_offsets(connections, Group.CLEANER, places)
    rows = [(topic.removesuffix(".raw"), partition, offset) for (topic, partition), offset in found.items()]
    _table(engine, "passed", {"entity": pl.String(), "partition": pl.Int64(), "upto": pl.Int64()}, rows)


def _warehouse(warehouse: Engine, engine: duck.Engine, progress: Shown) -> None:
    """``stored``: entity, partition → the largest raw offset in the warehouse; ``facts``; ``dim_<entity>``."""
    with snapshot.reading(warehouse) as connection:
        stored: list[tuple] = []
        if _exists(connection, "consumer_positions"):
            query = "SELECT topic, partition, source_offset FROM consumer_positions WHERE topic LIKE '%.clean'"
            stored = [(t.removesuffix(".clean"), p, o) for t, p, o in connection.execute(text(query))]
        _table(engine, "stored", {"entity": pl.String(), "partition": pl.Int64(), "upto": pl.Int64()}, stored)
        progress.say("reading the warehouse")
        has_facts = _exists(connection, "fact_sales") and not _facts_are_off(connection)
        duck_facts = _FACTS if has_facts else "SELECT 0::bigint AS id, 0::bigint AS facts, 0 AS quantity LIMIT 0"
        snapshot.load(connection, engine, "facts", duck_facts)
        engine.execute("CREATE OR REPLACE TABLE settings AS SELECT ? AS has_facts", [has_facts])
        for entity in DIMENSIONS:
            snapshot.load(connection, engine, f"dim_{entity}", snapshot.QUERIES[f"dim_{entity}"])


def _exists(connection: Connection, table: str) -> bool:
    return connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": table}).scalar_one()


def _facts_are_off(connection: Connection) -> bool:
    """Ours says so with its state; another pipeline has facts or has not the table."""
    if not _exists(connection, "stored_settings"):
        return False
    value = connection.execute(text("SELECT value FROM stored_settings WHERE name = 'FACT_SALES'")).scalar_one_or_none()
    return value == "off"


def _topics(connections: Connections, engine: duck.Engine, progress: Shown) -> None:
    registry = Registry(connections.schema_registry_url)

    def decoder(topic: str, schema: dict) -> Decoder:
        versions = wait_for(lambda: registry.versions(f"{topic}-value"), COMMAND_PATIENCE_S)
        return Decoder(schema, {number: dict(writer) for number, writer in versions.values()})

    layouts: dict[Entity, dict] = {e: load(SCHEMAS / "clean" / f"{e}.avsc") for e in DIMENSIONS}
    decoders = {topics.clean(e): decoder(topics.clean(e), layouts[e]) for e in DIMENSIONS}
    decoders[Result.FAULTS] = decoder(Result.FAULTS, without_logical_types(layout(Result.FAULTS)))
    take: dict[str, Callable[[Sequence[Any]], None]] = {
        topic: table.take  # type: ignore[attr-defined]
        for topic, table in tables(engine, layouts, decoders).items()
    }
    until = wait_for(lambda: ends(connections, take), COMMAND_PATIENCE_S)
    total = sum(end for places in until.values() for end in places.values())
    progress.say("reading the topics, records")
    read(connections, until, take, lambda n: progress.count(n, total))


def _table(engine: duck.Engine, name: str, schema: dict[str, pl.DataType], rows: Iterable[tuple]) -> None:
    duck.create(engine, name, schema)
    duck.insert(engine, name, pl.DataFrame(list(rows), schema=schema, orient="row"))
