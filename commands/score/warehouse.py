"""What a score reads of the warehouse, in one snapshot. A table that the pipeline lacks and may lack is empty."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from sqlalchemy import Connection, Engine, text

from commands.audit import engine as duck
from commands.audit import retained, snapshot
from commands.audit.results import OutboxRecord, outbox_records
from commands.audit.snapshot import OUTBOX, WAREHOUSE_ID
from commands.audit.windows import COUNTS, MONEY, sizes
from retail_stream.entities import DIMENSIONS
from retail_stream.topics import Result

_US = "(extract(epoch FROM {0}) * 1000000)::bigint AS {1}"
#: SALES_WINDOWS of a pipeline that has neither a stored setting nor a window.
_DEFAULT_WINDOWS = "1m"
_MOST_SLIDES = 1440


@dataclass(frozen=True)
class _Optional:
    """A table of the engine: the rows of ``query``, or none where the warehouse lacks the table ``source``."""

    source: str
    query: str
    schema: Mapping[str, pl.DataType]


_NUMBER, _TEXT = pl.Int64(), pl.String()
#: The columns of a fact beside its id, its time and ``payment_method``; amounts in cents.
FACT_NUMBERS = ("store_id", "customer_id", "product_id", "quantity")
FACT_AMOUNTS = ("unit_price", "total_amount", "discount_applied", "tax_amount")
_TABLES = {
    # The smallest: other consumers of the topic may be ahead.
    "stored": _Optional(
        "consumer_positions",
        """SELECT split_part(topic, '.', 1) AS entity, partition::bigint, min(source_offset)::bigint AS upto
           FROM consumer_positions WHERE topic LIKE '%.clean' GROUP BY 1, 2""",
        {"entity": _TEXT, "partition": _NUMBER, "upto": _NUMBER},
    ),
    "facts": _Optional(
        "fact_sales",
        f"""SELECT transaction_id::bigint AS id, count(*) AS facts, {_US.format("min(event_time)", "event_time")},
                   {", ".join(f"min({n})::bigint AS {n}" for n in FACT_NUMBERS)}, min(payment_method) AS payment_method,
                   {", ".join(f"(min({n}) * 100)::bigint AS {n}" for n in FACT_AMOUNTS)}
           FROM fact_sales GROUP BY 1""",
        {
            **dict.fromkeys(("id", "facts", "event_time", *FACT_NUMBERS), _NUMBER),
            "payment_method": _TEXT,
            **dict.fromkeys(FACT_AMOUNTS, _NUMBER),
        },
    ),
    "window_counts": _Optional(
        "sales_by_window",
        f"""SELECT {_US.format("window_size", "size")}, {_US.format("window_start", "start")}, store_id::bigint,
                   {", ".join(f"{n}::bigint" for n in COUNTS)},
                   {", ".join(f"({n} * 100)::bigint AS {n}" for n in MONEY)} FROM sales_by_window""",
        dict.fromkeys(("size", "start", "store_id", *COUNTS, *MONEY), _NUMBER),
    ),
    "outbox": _Optional(
        "outbox",
        OUTBOX + f" WHERE topic IN ('{Result.LATE}', '{Result.WATERMARKS}')",
        {
            **dict.fromkeys(("id", "partition", "timestamp_ms"), _NUMBER),
            **dict.fromkeys(("topic", "headers"), _TEXT),
            **dict.fromkeys(("key", "value"), pl.Binary()),
        },
    ),
    "warehouse_id": _Optional("warehouse_id", WAREHOUSE_ID, {"id": _TEXT}),
    **{name: _Optional(source, retained.QUERIES[name], schema) for name, (source, schema) in retained.NEEDS.items()},
}


def take(warehouse: Engine, engine: duck.Engine) -> dict[Result, list[OutboxRecord]]:
    """Load the warehouse; returns the records of `sales.late` and `sales.watermarks` that are still in its outbox.

    Makes ``stored`` (entity, partition → the largest raw offset in the warehouse), ``facts``, ``dim_<entity>``,
    ``window_counts``, ``window_sizes``, ``warehouse_id``, the tables of retained.py and ``settings``: ``delay`` and
    ``lateness`` in microseconds, null where the pipeline does not store them.

    Raises:
        Unavailable: the database does not answer.
        RetailStreamError: the database has no dimensions.
    """
    with snapshot.reading(warehouse) as connection:
        settings = _settings(connection)
        has_facts = _exists(connection, "fact_sales") and settings.get("FACT_SALES") != "off"
        has_positions = _exists(connection, "consumer_positions")
        flags = dict.fromkeys(("has_facts", "has_positions"), pl.Boolean())
        duck.create(engine, "settings", {**flags, "delay": _NUMBER, "lateness": _NUMBER})
        delay, lateness = (_micros(settings.get(name)) for name in ("WATERMARK_DELAY_S", "ALLOWED_LATENESS_S"))
        engine.execute("INSERT INTO settings VALUES (?, ?, ?, ?)", [has_facts, has_positions, delay, lateness])
        # Only an outbox beside `warehouse_id` is known to have our columns.
        outbox = _exists(connection, "warehouse_id")
        for name, table in _TABLES.items():
            if _exists(connection, table.source) and (outbox or name != "outbox"):
                snapshot.load(connection, engine, name, table.query)
            else:
                duck.create(engine, name, table.schema)
        for entity in DIMENSIONS:
            snapshot.load(connection, engine, f"dim_{entity}", snapshot.dimension(entity))
    window_sizes(engine, settings.get("SALES_WINDOWS"))
    return {t: outbox_records(engine, t) for t in (Result.LATE, Result.WATERMARKS)} if outbox else {}


def window_sizes(engine: duck.Engine, setting: str | None) -> None:
    """Make ``window_sizes`` (size, slide) of the stored SALES_WINDOWS.

    A pipeline that stores no setting has the sizes of its windows; each slide divides the size and all starts. A
    pipeline without windows has the default size, and lacks its windows.
    """
    known = [] if setting is None else [(w.size, w.slide) for w in sizes(setting)]
    if setting is None:
        rows = engine.execute("SELECT size, list(DISTINCT start) FROM window_counts GROUP BY 1").fetchall()
        slides = {size: math.gcd(size, *starts) for size, starts in rows if size > 0}
        known = [(size, slide if size <= slide * _MOST_SLIDES else size) for size, slide in slides.items()]
        known = known or [(w.size, w.slide) for w in sizes(_DEFAULT_WINDOWS)]
    duck.create(engine, "window_sizes", {"size": _NUMBER, "slide": _NUMBER})
    engine.executemany("INSERT INTO window_sizes VALUES (?, ?)", known)


def _micros(seconds: str | None) -> int | None:
    return int(seconds) * 1_000_000 if seconds is not None and seconds.isdigit() else None


def _settings(connection: Connection) -> dict[str, str]:
    if not _exists(connection, "stored_settings"):
        return {}
    return {row.name: row.value for row in connection.execute(text("SELECT name, value FROM stored_settings"))}


def _exists(connection: Connection, table: str) -> bool:
    return bool(connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": table}).scalar_one())
