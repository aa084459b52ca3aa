"""Every distinct clean sale as a row of `fact_sales`, by COPY."""

import polars as pl
import psycopg
from sqlalchemy import Connection, text

from retail_stream.kafka.batches import EXTRA
from retail_stream.warehouse import postgres
from services.aggregator.duplicates import EXPIRES, IDENTITY
from services.aggregator.totals import cents
from services.aggregator.watermark import BEFORE

#: The most days with a partition of their own; the sales of further days go to the default partition. Postgres locks
#: every partition that a query may read and has room for some thousand locks. README.md says how to make room.
MOST_DAYS = 400
_LAST_DAY = 2_932_896  # 9999-12-31
_DAY = 86_400_000_000
_AMOUNTS = ("unit_price", "total_amount", "discount_applied", "tax_amount")
_COLUMNS = ("transaction_id", "store_id", "event_time", "customer_id", "product_id", "quantity")
_DEFAULT = "fact_sales_other_days"


def store(connection: Connection, sales: pl.DataFrame) -> int:
    """Insert the sales that are not stored yet and return their number; the first of an identity counts.

    ``sales``: of a :class:`step.Step`, with BEFORE and EXPIRES. A sale whose identity is still held is certainly new
    and is copied into the table. Only the others, too late for every window, are compared with stored facts.
    """
    if sales.is_empty():
        return 0
    _ensure_days(connection, sales.select((pl.col("event_time") // _DAY).unique().sort()).to_series().to_list())
    held = sales[EXPIRES].gt(sales[BEFORE]).fill_null(True)
    rows = sales.select(
        *_COLUMNS[:6],
        # The double nearest to a number of two decimals prints as that number: the column holds the exact cents.
        *((cents(a) / 100.0).alias(a) for a in _AMOUNTS),
        "payment_method",
        EXTRA,
    )
    try:
        with connection.begin_nested():
            postgres.copy(connection, "fact_sales", certain := rows.filter(held), times=["event_time"])
    except psycopg.errors.UniqueViolation:
        # A foreign producer put the sales of one store into two partitions; duplicates are known within a partition.
        return _insert_new(connection, rows)
    return certain.height + _insert_new(connection, rows.filter(~held))


def _insert_new(connection: Connection, rows: pl.DataFrame) -> int:
    if rows.is_empty():
        return 0
    connection.execute(text("CREATE TEMP TABLE incoming_sales (LIKE fact_sales) ON COMMIT DROP"))
    distinct = rows.unique(IDENTITY, keep="first", maintain_order=True)
    postgres.copy(connection, "incoming_sales", distinct, times=["event_time"])
    return connection.execute(
        text("INSERT INTO fact_sales SELECT * FROM incoming_sales ON CONFLICT DO NOTHING")
    ).rowcount


def _ensure_days(connection: Connection, days: list[int]) -> None:
    """Attach a partition of the table for each day that has none; days are numbered from 1970-01-01 UTC."""
    attached = set(
        connection.execute(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass")
        ).scalars()
    )
    for day in days:
        first, after = (str(pl.select(pl.lit(d).cast(pl.Date)).item()) for d in (day, min(day + 1, _LAST_DAY)))
        name = f"fact_sales_{first.replace('-', '_')}"
        if name in attached:
            continue
        bounds = f"FOR VALUES FROM ('{first}') TO ({'MAXVALUE' if day == _LAST_DAY else repr(after)})"
        if len(attached - {_DEFAULT}) >= MOST_DAYS:
            name, bounds = _DEFAULT, "DEFAULT"
        if _DEFAULT in attached and (name == _DEFAULT or _in_default(connection, first)):
            continue
        # ATTACH to a parent without a default partition blocks no reader; CREATE TABLE … PARTITION OF would.
        connection.execute(text(f"CREATE TABLE {name} (LIKE fact_sales INCLUDING ALL)"))
        connection.execute(text(f"ALTER TABLE fact_sales ATTACH PARTITION {name} {bounds}"))
        attached.add(name)


def _in_default(connection: Connection, day: str) -> bool:
    """Whether the default partition has sales of a day; then that day cannot have a partition of its own."""
    query = f"""
        SELECT EXISTS (SELECT FROM {_DEFAULT}
                       WHERE event_time >= CAST(:day AS timestamptz)
                         AND event_time < CAST(:day AS timestamptz) + interval '1 day')
    """
    return bool(connection.execute(text(query), {"day": day}).scalar_one())
