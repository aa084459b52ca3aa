"""`retail-stream dlq load`: the dead letter topics as rows of `dead_letters`, by entity, rule and value.

Each run adds what came since the last one. A letter is known by its offset, so a repeat of a run adds nothing.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, text

from commands.dlq.letters import Letter
from commands.dlq.show import Schemas, raw_schemas
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.dead_letters import Header
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, first_offsets, topic_partitions
from retail_stream.kafka.reading import read_patiently
from retail_stream.kafka.topic_ids import topic_ids
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres, topics_read

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS = 2_000
_NEXT = text('SELECT partition, max("offset") + 1 FROM dead_letters WHERE entity = :entity GROUP BY partition')
_INSERT = text("""
    INSERT INTO dead_letters
    SELECT r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        entity text, partition integer, "offset" bigint, published_at timestamptz, source_partition integer,
        source_offset bigint, rules text[], rules_version text, message text, key text, value jsonb)
    ON CONFLICT DO NOTHING
""")
_FROM = text("""
    INSERT INTO topics_read (topic, topic_id) VALUES (:topic, :id) ON CONFLICT (topic) DO UPDATE SET topic_id = :id
""")


def load(connections: Connections, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Add the dead letters that the topics hold now and the table lacks; returns how many.

    ``progress``: called now and then with the number of dead letters read, and of all to read.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    registry = Registry(connections.schema_registry_url)
    engine = postgres.engine(connections.database_url)
    try:
        return sum(_load(connections, registry, engine, entity, progress) for entity in Entity)
    finally:
        engine.dispose()


def _load(
    connections: Connections,
    registry: Registry,
    engine: Engine,
    entity: Entity,
    progress: Callable[[int, int], None],
) -> int:
    topic = topics.dlq(entity)
    # Before the offsets: if it is made anew in between, the next run sees another id.
    topic_id = wait_for(lambda: topic_ids(connections, [topic]), COMMAND_PATIENCE_S)[topic]
    places = wait_for(lambda: topic_partitions(connections, topic), COMMAND_PATIENCE_S)
    firsts = wait_for(lambda: first_offsets(connections, places), COMMAND_PATIENCE_S)
    ends = wait_for(lambda: end_offsets(connections, places), COMMAND_PATIENCE_S)
    begins = wait_for(lambda: _begins(engine, entity, topic_id, ends), COMMAND_PATIENCE_S)
    ranges = {p: range(max(begins.get(p[1], 0), firsts[p]), end) for p, end in ends.items()}
    done, total, added = 0, sum(map(len, ranges.values())), 0
    if not total:
        return 0
    # After the ends: the schemas of all these letters are registered by now.
    writers = wait_for(partial(raw_schemas, registry, entity), COMMAND_PATIENCE_S)
    reader = RecordSchema(topics.topic(topics.raw(entity)).schema())
    for batch in read_patiently(connections, {p: r for p, r in ranges.items() if len(r)}, COMMAND_PATIENCE_S):
        letters = [Letter.of(entity, m) for m in batch]
        for start in range(0, len(letters), _ROWS):
            rows = json.dumps(_rows(letters[start : start + _ROWS], reader, writers), allow_nan=False)
            added += wait_for(partial(_insert, engine, entity, rows), COMMAND_PATIENCE_S)
        done += len(batch)
        progress(done, total)
    return added


def _begins(engine: Engine, entity: Entity, topic_id: str, ends: Mapping[TopicPartitionKey, int]) -> Mapping[int, int]:
    """Partition → the first offset that is not in the table. Rows of a topic that was made anew since are deleted."""
    topic = topics.dlq(entity)
    with postgres.outages(engine), engine.begin() as connection:
        # Of two runs at once only the first deletes, before either adds a row.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('dead_letters'))"))
        known = topics_read.stored(connection).get(topic, topic_id)
        connection.execute(_FROM, {"topic": topic, "id": topic_id})
        begins: dict[int, int] = dict(map(tuple, connection.execute(_NEXT, {"entity": entity.value}).all()))
        # Rows of an earlier release come without an id, and older topics that are restored have the same.
        if known != topic_id or any(begins.get(p, 0) > end for (_, p), end in ends.items()):
            connection.execute(text("DELETE FROM dead_letters WHERE entity = :entity"), {"entity": entity.value})
            return {}
        return begins


def _insert(engine: Engine, entity: Entity, rows: str) -> int:
    with postgres.outages(engine), engine.begin() as connection:
        added = connection.execute(_INSERT, {"rows": rows}).rowcount
        if entity in DIMENSIONS:
            added -= drop_forgotten(connection, entity)
        return added


def drop_forgotten(connection: Connection, entity: Entity) -> int:
    """Delete the letters of ids that were forgotten since; returns how many. No date counts as an early one."""
    return connection.execute(
        text(f"""
            DELETE FROM dead_letters d USING forgotten f
            WHERE d.entity = :entity AND f.entity = :entity AND (d.published_at < f.before) IS NOT FALSE
              AND f.id::text IN (d.key, d.value->>'{FIELDS[entity].key}')
        """),
        {"entity": entity.value},
    ).rowcount


def _rows(letters: Sequence[Letter], reader: RecordSchema, writers: Schemas) -> list[dict[str, Any]]:
    decoded = reader.read([x.value for x in letters], writers)
    times = {f["name"] for f in reader.schema["fields"] if "timestamp-micros" in json.dumps(f["type"])}
    records = zip(decoded.rows.tolist(), decoded.table.select(list(reader.columns)).iter_rows(named=True), strict=True)
    values = {row: {n: _plain(v, n in times) for n, v in record.items()} for row, record in records}
    return [_row(letter, values.get(i)) for i, letter in enumerate(letters)]


def _row(letter: Letter, value: dict[str, Any] | None) -> dict[str, Any]:
    origin, at = letter.origin, letter.at
    return {
        "entity": letter.entity.value,
        "partition": letter.partition,
        "offset": letter.offset,
        "published_at": None if at is None else at.isoformat(),
        "source_partition": None if origin is None else origin.partition,
        "source_offset": None if origin is None else origin.offset,
        "rules": list(map(_text, letter.rules)),
        "rules_version": _text(letter.text(Header.RULES_VERSION)),
        "message": _text(letter.text(Header.MESSAGE)),
        "key": _key(letter.key),
        "value": value,
    }


def _key(key: bytes | None) -> str | None:
    try:
        return None if key is None else _text(key.decode())
    except UnicodeDecodeError:
        return "\\x" + (key or b"").hex()


def _plain(value: Any, is_time: bool) -> Any:
    """A field as JSON and Postgres hold it: a time as ISO 8601 where it is a date, an odd double as text."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if is_time and isinstance(value, int):
        try:
            return (_EPOCH + timedelta(microseconds=value)).isoformat()
        except OverflowError:
            return value
    return value


def _text(text: Any) -> Any:
    """Postgres holds no U+0000."""
    return text.replace("\0", "\ufffd") if isinstance(text, str) else text
