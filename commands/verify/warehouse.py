"""The queries by which `verify` reads the warehouse, and a view that it reads beside the topics."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
from sqlalchemy import Connection, Engine

from commands.audit import engine as duck
from commands.audit.snapshot import OUTBOX, WAREHOUSE_ID, cents, dimension, load, micros, reading
from commands.audit.versions import surrogate
from commands.audit.windows import COUNTS, MONEY
from commands.verify.categories import VIEW
from commands.verify.facts import CENTS
from commands.verify.guards import GUARDS
from commands.verify.windows import IDS, TABLES
from retail_stream.entities import DIMENSIONS, JOINED


def _windows(table: str, id_column: str, more: str = "") -> str:
    money = ", ".join(map(cents, MONEY))
    times = ", ".join(map(micros, ("window_size", "window_start", "window_end")))
    return f"""
        SELECT {times}, {id_column}, {", ".join(COUNTS)}, {money}{more} FROM {table}
    """


def _micros_of_each(array: str) -> str:
    """SQL: an array of times or intervals as the text of their microseconds."""
    each = micros("e", "n")
    return f"""
        (SELECT string_agg(n::text, ',' ORDER BY i)
         FROM (SELECT {each}, i FROM unnest({array}) WITH ORDINALITY AS u (e, i)) a) AS {array}
    """


_SALE = f"""
    transaction_id, {micros("event_time")}, store_id, customer_id, product_id, quantity, payment_method,
    extra::text AS extra, {", ".join(map(cents, CENTS))}, {micros("published_at")}, source_partition, source_offset
"""
#: Table of the engine → the query in Postgres.
QUERIES: dict[str, str] = {
    "positions": "SELECT consumer_group, topic, partition, next_offset, source_offset, "
    f"{micros('updated_at')} FROM consumer_positions",
    "settings": "SELECT name, value FROM stored_settings",
    **{f"dim_{e}": dimension(e) for e in DIMENSIONS},
    **{f"{e}_current": dimension(e, f"{e}_current") for e in DIMENSIONS},
    "fact_sales": f"SELECT {_SALE} FROM fact_sales",
    "late_sales": f"""
        SELECT {_SALE}, {_micros_of_each("window_sizes")}, {_micros_of_each("window_starts")},
               {_micros_of_each("late_by")}, {micros("watermark")} FROM late_sales
    """,
    "stored_before": "SELECT partition, source_offset FROM stored_before",
    "sales_enriched": f"""
        SELECT transaction_id, {micros("event_time")}, store_id, {", ".join(map(surrogate, JOINED))}
        FROM sales_enriched
    """,
    **{table: _windows(table, IDS[kind], ", revision, state") for kind, table in TABLES.items()},
    VIEW: _windows(VIEW, "category"),
    "partition_watermarks": f"""
        SELECT partition, {micros("watermark")}, idle,
               coalesce(idle AND idle_until > clock_timestamp(), false) AS leased
        FROM partition_watermarks WHERE topic = 'sales.clean'
    """,
    "stream_watermark": f"""
        SELECT {micros("watermark")}, {micros("clock_timestamp()", "now")} FROM stream_watermark
        WHERE topic = 'sales.clean'
    """,
    "warehouse_id": WAREHOUSE_ID,
    "guards": GUARDS,
    "outbox": OUTBOX,
}


def export_snapshot(connection: Connection) -> str:
    """The name of the transaction's snapshot, for :func:`reading`. It is valid while this transaction is open."""
    return str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())


class BackgroundLoad:
    """Loads one table on a thread and a connection of its own, from the snapshot of another transaction."""

    def __init__(self, engine: Engine, exported: str, target: duck.Engine, table: str) -> None:
        """Starts loading. ``exported``: from :func:`export_snapshot`; that transaction may end when this returns."""
        self._open = ExitStack()
        self._connection = self._open.enter_context(reading(engine, exported))
        self._thread = ThreadPoolExecutor(1)
        self._loaded = self._thread.submit(self._load, target.cursor(), table)

    def _load(self, target: duck.Engine, table: str) -> None:
        with self._open:
            load(self._connection, target, table, QUERIES[table])

    def result(self) -> None:
        """Wait until the table is loaded.

        Raises:
            Unavailable: the database went away.
        """
        self._loaded.result()

    def cancel(self) -> None:
        """Stop a load that has not ended."""
        driver = self._connection.connection.driver_connection if not self._loaded.done() else None
        if isinstance(driver, psycopg.Connection):
            driver.cancel()
        self._thread.shutdown(wait=False)
