"""The queries by which `verify` reads the warehouse, and a view that it reads beside the topics."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
from sqlalchemy import Connection, Engine

from commands.audit import engine as duck
from commands.audit.layouts import Holds, holds
from commands.audit.retained import QUERIES as RETAINED
from commands.audit.snapshot import OUTBOX, WAREHOUSE_ID, cents, dimension, load, micros, reading
from commands.audit.versions import attributes, surrogate
from commands.audit.windows import COUNTS, MONEY
from commands.progress import Shown
from commands.verify.catalogue import CATALOGUE
from commands.verify.facts import CENTS
from commands.verify.guards import GUARDS
from commands.verify.shaping import QUERIES as FIRST
from commands.verify.shaping import Shaping
from commands.verify.shown import PLACES
from commands.verify.stored import REVISIONS
from commands.verify.versions import AS_OF_IDS
from commands.verify.views import ATTACHED, FACT_PARTITIONS
from retail_stream.entities import DIMENSIONS, FIELDS, JOINED, Entity


def windows(shaping: Shaping) -> dict[str, str]:
    """The queries of the tables and views of windows, by their names."""
    tables = {g.table: _windows(g.table, g.column, g.measures, ", revision, state") for g in shaping.groupings}
    return tables | {v.name: _windows(v.name, f'"{v.attribute}"', v.base.measures) for v in shaping.views}


def _windows(table: str, id_column: str, measures: Sequence[str], more: str = "") -> str:
    sums = ", ".join([*(m for m in COUNTS if m in measures), *(cents(m) for m in MONEY if m in measures)])
    times = ", ".join(map(micros, ("window_size", "window_start", "window_end")))
    return f"SELECT {times}, {id_column}, {sums}{more} FROM {table}"


def _micros_of_each(array: str) -> str:
    """SQL: an array of times or intervals as the text of their microseconds."""
    each = micros("e", "n")
    return f"""
        (SELECT string_agg(n::text, ',' ORDER BY i)
         FROM (SELECT {each}, i FROM unnest({array}) WITH ORDINALITY AS u (e, i)) a) AS {array}
    """


def _changes(entity: Entity) -> str:
    key, time = FIELDS[entity].key, FIELDS[entity].time
    shown = (micros(a) if holds(entity)[a] is Holds.TIME else a for a in attributes(entity))
    return f"""
        SELECT {key} AS id, {micros(time, "moment")}, deleted, {", ".join(shown)}, extra::jsonb::text AS extra
        FROM {entity}_changes
    """


def _moment(entity: Entity) -> str:
    """SQL: a moment in the middle of a dimension's history."""
    return f"(SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY valid_from) AS moment FROM dim_{entity}) m"


def _as_of(entity: Entity) -> str:
    """The versions at that moment, of all ids and of some by the function's second argument (``by_key``)."""
    chosen = f"(SELECT DISTINCT {FIELDS[entity].key} AS k FROM dim_{entity} ORDER BY 1 LIMIT {AS_OF_IDS}) chosen"
    every = f"{_moment(entity)} CROSS JOIN LATERAL {entity}_as_of(m.moment) v"
    by_key = f"{_moment(entity)} CROSS JOIN {chosen} CROSS JOIN LATERAL {entity}_as_of(m.moment, chosen.k) v"
    return f"{dimension(entity, every, 'false AS by_key')} UNION ALL {dimension(entity, by_key, 'true AS by_key')}"


#: Column of ``sales_enriched`` → what it shows, of the fact ``f`` or of the versions that the view names.
_ENRICHED = {
    **{
        name: f"f.{name}"
        for name in (
            *("customer_id", "product_id", "quantity", "unit_price", "total_amount", "payment_method"),
            *("discount_applied", "tax_amount", "extra", "published_at", "source_partition", "source_offset"),
        )
    },
    "customer_name": "c.name",
    "customer_email": "c.email",
    "loyalty_points": "c.loyalty_points",
    "product_name": "p.name",
    "category": "p.category",
    "brand": "p.brand",
    "store_name": "s.name",
    "manager": "s.manager",
    "lateness": "f.published_at - f.event_time",
    "too_late": (
        "((SELECT count(*) FROM late_sales l WHERE (l.store_id, l.event_time) = (f.store_id, f.event_time)"
        " AND l.source_partition = f.source_partition AND l.source_offset = f.source_offset) > 0)"
    ),
    "customer_address": "c.address",
    "customer_city": "city_of(c.address)",
    "customer_region": "region_of(c.address)",
    "customer_phone_number": "c.phone_number",
    "store_address": "s.address",
    "store_city": "city_of(s.address)",
    "store_region": "region_of(s.address)",
    "store_phone_number": "s.phone_number",
    **{name: f"c.{name}" for name in ("join_date", "age", "gender")},
    **{name: f"p.{name}" for name in ("price", "stock_quantity", "size", "color", "description")},
    **{name: f"s.{name}" for name in ("open_date", "status")},
}


def _enriched() -> str:
    """The surrogate keys of each row, and ``odd``: in words, which other columns are not as those say; else null."""
    wrong = ", ".join(
        f"CASE WHEN e.{name} IS DISTINCT FROM {shows}"
        f" THEN format('{name} expected %s, found %s', {shows}, e.{name}) END"
        for name, shows in _ENRICHED.items()
    )
    same = " AND ".join(f"f.{n} = e.{n}" for n in ("transaction_id", "event_time", "store_id"))
    return f"""
        SELECT e.transaction_id, {micros("e.event_time", "event_time")}, e.store_id,
               {", ".join(f"e.{surrogate(j)}" for j in JOINED)}, nullif(concat_ws('; ', {wrong}), '') AS odd
        FROM sales_enriched e
        LEFT JOIN fact_sales f ON {same}
        LEFT JOIN dim_customers c ON c.customer_sk = e.customer_sk
        LEFT JOIN dim_products p ON p.product_sk = e.product_sk
        LEFT JOIN dim_stores s ON s.store_sk = e.store_sk
    """


_SALE = f"""
    transaction_id, {micros("event_time")}, store_id, customer_id, product_id, quantity, payment_method,
    extra::text AS extra, {", ".join(map(cents, CENTS))}, {micros("published_at")}, source_partition, source_offset
"""
_POSITIONS = (
    f"SELECT consumer_group, topic, partition, epoch, next_offset, source_offset, {micros('updated_at')} FROM {{}}"
)
#: Table of the engine → the query in Postgres, but for windows.
QUERIES: dict[str, str] = {
    "positions": _POSITIONS.format("consumer_positions"),
    "shown_positions": _POSITIONS.format("public.consumer_positions"),
    "pipeline_state": f"""
        SELECT {micros("watermark")}, outbox, idle_partitions, sales_windows, allowed_lateness_s FROM pipeline_state
    """,
    **FIRST,
    **{f"dim_{e}": dimension(e) for e in DIMENSIONS},
    **{f"{e}_current": dimension(e, f"{e}_current") for e in DIMENSIONS},
    **{f"{e}_as_of_moment": f"SELECT {micros('moment')} FROM {_moment(e)}" for e in DIMENSIONS},
    **{f"{e}_as_of": _as_of(e) for e in DIMENSIONS},
    **{f"{e}_changes": _changes(e) for e in DIMENSIONS},
    "fact_sales": f"SELECT {_SALE} FROM fact_sales",
    "late_sales": f"""
        SELECT {_SALE}, {_micros_of_each("window_sizes")}, {_micros_of_each("window_starts")},
               {_micros_of_each("late_by")}, {micros("watermark")} FROM late_sales
    """,
    "stored_before": "SELECT partition, source_offset FROM stored_before",
    "sales_enriched": _enriched(),
    REVISIONS: _windows(REVISIONS, "id", (*COUNTS, *MONEY), f", kind, revision, {micros('published_at')}"),
    # Revisions of an earlier release are on `sales.windows` only.
    "revisions_since": f"SELECT {micros('since')} FROM kept_since WHERE what = 'revisions' AND since <= now()",
    "dead_letters": f"""
        SELECT entity, partition, "offset", {micros("published_at")}, source_partition, source_offset,
               array_to_string(rules, ',') AS rules, rules_version, message, key, value::text AS value FROM dead_letters
    """,
    "baskets": f"""
        SELECT store_id, customer_id, {micros("event_time")}, payment_method, lines, units_sold, units_returned,
               {", ".join(map(cents, MONEY))} FROM baskets
    """,
    **{
        f"{one}_places": f"""
            SELECT {one}_sk, {one}_id, address, city, region, {micros("valid_from")}, {micros("valid_to")}, is_current
            FROM {one}_places
        """
        for one in PLACES
    },
    "partition_watermarks": f"""
        SELECT partition, epoch, {micros("watermark")}, idle,
               coalesce(idle AND idle_until > clock_timestamp(), false) AS leased
        FROM partition_watermarks WHERE topic = 'sales.clean'
    """,
    "stream_watermark": f"""
        SELECT {micros("watermark")}, {micros("clock_timestamp()", "now")} FROM stream_watermark
        WHERE topic = 'sales.clean'
    """,
    "stream_clock": f"""
        SELECT {micros("advanced_at")}, {micros("clock_timestamp()", "now")} FROM stream_watermark
        WHERE topic = 'sales.clean'
    """,
    "warehouse_id": WAREHOUSE_ID,
    "guards": GUARDS,
    "catalogue": CATALOGUE,
    "fact_partitions": FACT_PARTITIONS,
    "attached": ATTACHED,
    "sale_identities": f"SELECT id, partition, {micros('expires')}, number, low, high, identities FROM sale_identities",
    "topics_read": "SELECT topic, topic_id FROM topics_read",
    "replays": "SELECT consumer_group, topic, partition, replay_of FROM replays",
    "replayed_rises": f"SELECT partition, next_offset, {micros('watermark')} FROM replayed_rises",
    "outbox": OUTBOX,
    # Null where the user may not read the sequence.
    "outbox_end": """
        SELECT last_value AS last_id FROM pg_sequences
        WHERE schemaname = ANY (current_schemas(false)) AND sequencename = 'outbox_id_seq'
    """,
    **RETAINED,
}


def read(connection: Connection, target: duck.Engine, progress: Shown, queries: Mapping[str, str]) -> None:
    """Load the result of each query as the table of its name."""
    for table, query in queries.items():
        progress.say(f"reading the warehouse: {table}")
        load(connection, target, table, query)


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
