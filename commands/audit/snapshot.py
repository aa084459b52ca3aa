"""The warehouse in one snapshot, copied into the engine: times and intervals in microseconds, money in cents."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import polars as pl
import psycopg
import structlog
from sqlalchemy import Connection, Engine

from commands.audit import engine as duck
from commands.audit.layouts import Holds, holds
from commands.audit.records import frame
from commands.audit.versions import attributes, surrogate
from retail_stream.entities import FIELDS, Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

T = TypeVar("T")
_BATCH = 50_000
_SESSIONS = 3
_LACKS = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)
_log = structlog.get_logger(__name__)
WAREHOUSE_ID = "SELECT id::text AS id FROM warehouse_id"
OUTBOX = "SELECT id, topic, partition, key, value, headers::text AS headers, timestamp_ms FROM outbox"
#: Postgres' type oid → dtype; what the queries select has no other type.
_DTYPES: Mapping[int, pl.DataType] = {
    16: pl.Boolean(),
    17: pl.Binary(),
    20: pl.Int64(),
    21: pl.Int64(),
    23: pl.Int64(),
    25: pl.String(),
    701: pl.Float64(),
}


def micros(column: str, name: str = "") -> str:
    """SQL: a timestamptz or an interval as microseconds."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint AS {name or column}"


def cents(column: str) -> str:
    """SQL: an amount of money as cents."""
    return f"({column} * 100)::bigint AS {column}"


def dimension(entity: Entity, relation: str | None = None, *first: str) -> str:
    """The query of ``dim_<entity>``: ``sk``, key, attributes, time, ``valid_from``, ``valid_to``, ``is_current``.

    ``relation``: a view with the same columns, to select from instead. ``first``: columns before these.
    """
    key, time = FIELDS[entity].key, FIELDS[entity].time
    as_number = {Holds.TIME: micros, Holds.AMOUNT: cents}
    shown = [as_number.get(holds(entity)[f], str)(f) for f in attributes(entity)]
    times = [micros(t) for t in (time, "valid_from", "valid_to")]
    columns = ", ".join([*first, f"{surrogate(entity)} AS sk", key, *shown, *times, "is_current"])
    return f"SELECT {columns} FROM {relation or f'dim_{entity}'}"


@contextmanager
def reading(engine: Engine, exported: str | None = None) -> Iterator[Connection]:
    """One REPEATABLE READ, READ ONLY transaction.

    ``exported``: the snapshot to read, by the name that `pg_export_snapshot` gave it; None for one of its own.

    Raises:
        Unavailable: the database does not answer.
        RetailStreamError: the database lacks the warehouse's tables.
    """
    with postgres.outages(engine):
        try:
            with engine.connect().execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            ) as connection:
                if exported is not None:
                    connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{exported}'")
                yield connection
        except _LACKS as e:
            raise RetailStreamError(
                f"Postgres at {postgres.address(engine)} lacks the warehouse's tables; run `retail-stream init` first."
            ) from e


def patiently(read: Callable[[], T]) -> T:
    """Call ``read``, which reads one snapshot, until a session lasts to its end.

    A server that is away is waited for 30 s. A session that ended after more than that, in the middle of reading, does
    not count as waiting: its reading is repeated in a new snapshot, at most ``_SESSIONS`` times.

    Raises:
        Unavailable: the server did not answer for 30 s, or ended so many sessions.
    """
    for session in range(1, _SESSIONS + 1):
        began = time.monotonic()

        def attempt() -> T:
            nonlocal began
            began = time.monotonic()
            return read()

        try:
            return wait_for(attempt, COMMAND_PATIENCE_S)
        except Unavailable as e:
            if session == _SESSIONS or time.monotonic() - began < COMMAND_PATIENCE_S:
                raise
            _log.warning("reads the warehouse again, in a new snapshot", why=str(e))
    raise AssertionError


def load(connection: Connection, target: duck.Engine, table: str, query: str) -> None:
    """Copy the rows of a query into a new table of the engine, under the same column names."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor(name=f"audit_{table}", binary=True) as rows:
        rows.itersize = _BATCH
        rows.execute(query.encode())
        schema = {c.name: _DTYPES[c.type_code] for c in rows.description or ()}
        duck.create(target, table, schema)
        while batch := rows.fetchmany(_BATCH):
            duck.insert(target, table, frame(batch, schema))
