"""The warehouse as of one moment, copied into DuckDB: times and intervals in microseconds, money in cents."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import polars as pl
import psycopg
from sqlalchemy import Connection, Engine

from commands.audit import engine as duck
from commands.audit.layouts import Holds, holds
from commands.verify.categories import VIEW
from commands.verify.facts import MONEY
from commands.verify.versions import attributes, surrogate
from commands.verify.windows import COUNTS, IDS, TABLES
from commands.verify.windows import MONEY as MEASURED_MONEY
from retail_stream.entities import DIMENSIONS, FIELDS, JOINED, Entity
from retail_stream.errors import RetailStreamError
from retail_stream.warehouse import postgres

_BATCH = 50_000
#: Postgres' type numbers of what the queries below select.
_DTYPES: Mapping[int, pl.DataType] = {
    16: pl.Boolean(),
    17: pl.Binary(),
    20: pl.Int64(),
    21: pl.Int64(),
    23: pl.Int64(),
    25: pl.String(),
    701: pl.Float64(),
}


def _us(column: str, name: str = "") -> str:
    """SQL: a timestamptz or an interval as microseconds."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint AS {name or column}"


def _cents(column: str) -> str:
    return f"({column} * 100)::bigint AS {column}"


def _dimension(entity: Entity) -> str:
    key, time = FIELDS[entity].key, FIELDS[entity].time
    as_number = {Holds.TIME: _us, Holds.AMOUNT: _cents}
    shown = [as_number.get(holds(entity)[f], str)(f) for f in attributes(entity)]
    times = [_us(t) for t in (time, "valid_from", "valid_to")]
    columns = ", ".join([f"{surrogate(entity)} AS sk", key, *shown, *times, "is_current"])
    return f"SELECT {columns} FROM dim_{entity}"


def _windows(table: str, id_column: str, more: str = "") -> str:
    money = ", ".join(map(_cents, MEASURED_MONEY))
    times = ", ".join(map(_us, ("window_size", "window_start", "window_end")))
    return f"""
        SELECT {times}, {id_column}, {", ".join(COUNTS)}, {money}{more} FROM {table}
    """


#: Table in DuckDB → the query in Postgres.
QUERIES: dict[str, str] = {
    "positions": "SELECT consumer_group, topic, partition, next_offset, source_offset, "
    f"{_us('updated_at')} FROM consumer_positions",
    "settings": "SELECT name, value FROM stored_settings",
    **{f"dim_{e}": _dimension(e) for e in DIMENSIONS},
    "fact_sales": f"""
        SELECT transaction_id, {_us("event_time")}, store_id, customer_id, product_id, quantity, payment_method,
               {", ".join(map(_cents, MONEY))} FROM fact_sales
    """,
    "sales_enriched": f"""
        SELECT transaction_id, {_us("event_time")}, store_id, {", ".join(map(surrogate, JOINED))}
        FROM sales_enriched
    """,
    **{table: _windows(table, IDS[kind], ", revision, state") for kind, table in TABLES.items()},
    VIEW: _windows(VIEW, "category"),
    "partition_watermarks": f"""
        SELECT partition, {_us("watermark")}, idle, coalesce(idle AND idle_until > clock_timestamp(), false) AS leased
        FROM partition_watermarks WHERE topic = 'sales.clean'
    """,
    "stream_watermark": f"""
        SELECT {_us("watermark")}, {_us("clock_timestamp()", "now")} FROM stream_watermark WHERE topic = 'sales.clean'
    """,
    "warehouse_id": "SELECT id::text AS id FROM warehouse_id",
    "outbox": "SELECT id, topic, partition, key, value, headers::text AS headers, timestamp_ms FROM outbox",
}


@contextmanager
def reading(engine: Engine, moment: str | None = None) -> Iterator[Connection]:
    """One REPEATABLE READ READ ONLY transaction. ``moment``: as of another one's snapshot, see :func:`exported`.

    Raises:
        Unavailable: the database does not answer.
        RetailStreamError: it has not the tables.
    """
    try:
        with (
            postgres.outages(engine),
            engine.connect().execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            ) as connection,
        ):
            if moment is not None:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{moment}'")
            yield connection
    except psycopg.errors.UndefinedTable as e:
        raise RetailStreamError(
            f"Postgres at {postgres.address(engine)} has not the warehouse's tables: run `retail-stream init` first."
        ) from e
    except psycopg.OperationalError as e:
        raise postgres.unavailable(engine) from e


def exported(connection: Connection) -> str:
    """A name for the transaction's snapshot; another transaction can begin with it for as long as this one is open."""
    return connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()


class Later:
    """A table that is loaded meanwhile, of another transaction's snapshot, on a connection and a thread of its own."""

    def __init__(self, engine: Engine, moment: str, target: duck.Engine, table: str) -> None:
        """``moment``: from :func:`exported`; that transaction may end when this returns."""
        self._open = ExitStack()
        self._connection = self._open.enter_context(reading(engine, moment))
        self._thread = ThreadPoolExecutor(1)
        self._loaded = self._thread.submit(self._load, target.cursor(), table)

    def _load(self, target: duck.Engine, table: str) -> None:
        with self._open:
            load(self._connection, target, table, QUERIES[table])

    def result(self) -> None:
        """Wait until the table is there.

        Raises:
            Unavailable: the database went away.
        """
        self._loaded.result()

    def cancel(self) -> None:
        """Give up, if it is still being loaded."""
        driver = self._connection.connection.driver_connection if not self._loaded.done() else None
        if isinstance(driver, psycopg.Connection):
            driver.cancel()
        self._thread.shutdown(wait=False)


def load(connection: Connection, target: duck.Engine, table: str, query: str) -> None:
    """Copy the rows of a query into a new table of DuckDB, with its column names."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor(name=f"verify_{table}", binary=True) as rows:
        rows.itersize = _BATCH
        rows.execute(query.encode())
        schema = {c.name: _DTYPES[c.type_code] for c in rows.description or ()}
        duck.create(target, table, schema)
        while batch := rows.fetchmany(_BATCH):
            columns = zip(*batch, strict=True)
            series = [pl.Series(n, v, dtype=t) for (n, t), v in zip(schema.items(), columns, strict=True)]
            duck.insert(target, table, pl.DataFrame(series))
