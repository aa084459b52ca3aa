"""`retail-stream forget customer ID`: delete what the warehouse holds of an id, and let its topics end with a delete.

The tombstone goes to the raw topic, so every reader of the topics learns of the delete. Then one transaction deletes
the changes and versions of the id, and notes it. The merger drops changes of an earlier time that come again: late
ones, and all of them in a rebuild. Kafka cannot delete a record within a log: docs/retention.md says what is left.
"""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message
from sqlalchemy import Engine, text

from commands.dlq.load import drop_forgotten
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.errors import RetailStreamError, SettingsError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from retail_stream.kafka.offsets import require_topics
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

#: What a person calls one of each dimension, as in `customer_id`.
ONE = {str(FIELDS[e].key).removesuffix("_id"): e for e in DIMENSIONS}
_INTEGERS = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Forgotten:
    """How many rows were deleted, and the time (microseconds since 1970-01-01 UTC) before which nothing is kept."""

    versions: int
    changes: int
    before_us: int


def entity(one: str) -> Entity:
    """The dimension that a word such as `customer` means.

    Raises:
        SettingsError: there is none.
    """
    if one not in ONE:
        raise SettingsError(f"{one!r} has no history; allowed: {', '.join(ONE)}.")
    return ONE[one]


def forget(connections: Connections, dimension: Entity, number: int) -> Forgotten:
    """Publish the tombstone and delete the rows of an id; to repeat it does no harm.

    Raises:
        SettingsError: the id is not a 32-bit integer.
        Unavailable: a server did not answer for 30 s. If it was Postgres, the tombstone is there: repeat the command.
        RetailStreamError: Kafka does not take the tombstone, or Postgres refuses to delete.
    """
    if number not in _INTEGERS:
        raise SettingsError(f"{number} is not an id: {FIELDS[dimension].key} is a 32-bit integer.")
    topic = topics.raw(dimension)
    now = time.time_ns() // 1000
    engine = postgres.engine(connections.database_url)
    try:
        # Before the tombstone, so that one without the other is rare.
        wait_for(lambda: _require_table(engine), COMMAND_PATIENCE_S)
        wait_for(lambda: require_topics(connections, [topic]), COMMAND_PATIENCE_S)
        _publish(connections, topic, number, now)
        return wait_for(lambda: _delete(engine, dimension, number, now), COMMAND_PATIENCE_S)
    finally:
        engine.dispose()


def _publish(connections: Connections, topic: str, number: int, now_us: int) -> None:
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        failed.extend([] if error is None else [error])

    producer = clients.producer(connections)
    headers: list[tuple[str, bytes]] = [(SEQUENCE_TIME, as_big_endian(now_us))]
    try:
        producer.produce(topic, None, str(number).encode(), headers=headers, on_delivery=delivered)
    except KafkaException as e:
        failed.append(e.args[0])
    if producer.flush(COMMAND_PATIENCE_S):
        raise clients.unavailable(connections)
    if failed:
        raise RetailStreamError(
            f"{topic} does not take the delete of {number}: {failed[0].str()}. Nothing was deleted."
        )


def _delete(engine: Engine, dimension: Entity, number: int, now_us: int) -> Forgotten:
    key, moment = FIELDS[dimension].key, FIELDS[dimension].time
    before = "to_timestamp(0) + :now * interval '1 microsecond'"
    given = {"entity": dimension.value, "id": number, "now": now_us}
    with postgres.outages(engine), engine.begin() as connection:
        # No merger is between its look at the table and its commit.
        connection.execute(text("LOCK TABLE forgotten IN ACCESS EXCLUSIVE MODE"))
        # Nor merges it stored changes again, for columns that a migration added.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:table))"), {"table": f"dim_{dimension}"})
        connection.execute(
            text(f"""
            INSERT INTO forgotten VALUES (:entity, :id, {before})
            ON CONFLICT (entity, id) DO UPDATE SET before = greatest(forgotten.before, EXCLUDED.before)
            """),
            given,
        )
        versions, changes = (
            connection.execute(text(f"DELETE FROM {table} WHERE {key} = :id AND {start} < {before}"), given).rowcount
            for table, start in ((f"dim_{dimension}", "valid_from"), (f"{dimension}_changes", moment))
        )
        drop_forgotten(connection, dimension)
    return Forgotten(versions, changes, now_us)


def _require_table(engine: Engine) -> None:
    with postgres.outages(engine), engine.connect() as connection:
        if connection.execute(text("SELECT to_regclass('forgotten') IS NULL")).scalar_one():
            raise Unavailable(f"Postgres at {postgres.address(engine)} lacks a table; run `retail-stream init` first.")
