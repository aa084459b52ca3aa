"""Every distinct clean sale as a row of `fact_sales`, by COPY."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
import psycopg
import structlog
from sqlalchemy import Connection, text

from retail_stream.kafka.batches import EXTRA, SOURCE, TIMESTAMP
from retail_stream.warehouse import postgres
from services.aggregator.duplicates import EXPIRES, IDENTITY
from services.aggregator.step import PARTITION
from services.aggregator.totals import cents
from services.aggregator.warehouse import FIRST, LAST
from services.aggregator.watermark import BEFORE

#: Years whose months have partitions of their own; see migration 0009.
_MONTHS = range(2000, 2100)
_DAY = 86_400_000_000
_AMOUNTS = ("unit_price", "total_amount", "discount_applied", "tax_amount")
_PLAIN = ("transaction_id", "store_id", "event_time", "customer_id", "product_id", "quantity", "payment_method", EXTRA)
_DAYS = pl.col("event_time") // _DAY
#: The columns of a fact, of the sales of a :class:`step.Step`.
COLUMNS = (
    *map(pl.col, _PLAIN),
    # The double nearest to a number of two decimals prints as that number: the column holds the exact cents.
    *((cents(a) / 100.0).alias(a) for a in _AMOUNTS),
    pl.col(TIMESTAMP).clip(FIRST, LAST).alias("published_at"),
    pl.col(PARTITION).alias("source_partition"),
    pl.col(SOURCE).replace(-1, None).alias("source_offset"),
)
#: Those of them that are microseconds.
TIMES = ("event_time", "published_at")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Partition:
    """Its days, numbered from 1970-01-01 UTC: ``after`` is exclusive. ``name``: what it was made with."""

    first: int
    after: int
    name: str
    is_attached: bool


def store(connection: Connection, sales: pl.DataFrame) -> int:
    """Insert the sales that are not stored yet and return their number; the first of an identity counts.

    ``sales``: of a :class:`step.Step`, with BEFORE and EXPIRES. A sale whose identity is still held is certainly new
    and is copied into the table. Only the others, too late for every window, are compared with stored facts. A sale
    whose partition was detached is not stored.
    """
    if sales.is_empty():
        return 0
    sales = _without_archived(sales, _made(connection, sales.select(_DAYS.unique().sort()).to_series().to_list()))
    if sales.is_empty():
        return 0
    held = sales[EXPIRES].gt(sales[BEFORE]).fill_null(True)
    rows = sales.select(COLUMNS)
    try:
        with connection.begin_nested():
            postgres.copy(connection, "fact_sales", certain := rows.filter(held), times=TIMES)
    except psycopg.errors.UniqueViolation:
        # A foreign producer put the sales of one store into two partitions; duplicates are known within a partition.
        return _insert_new(connection, rows)
    return certain.height + _insert_new(connection, rows.filter(~held))


def _insert_new(connection: Connection, rows: pl.DataFrame) -> int:
    if rows.is_empty():
        return 0
    connection.execute(text("CREATE TEMP TABLE incoming_sales (LIKE fact_sales) ON COMMIT DROP"))
    distinct = rows.unique(IDENTITY, keep="first", maintain_order=True)
    postgres.copy(connection, "incoming_sales", distinct, times=TIMES)
    return connection.execute(
        text("INSERT INTO fact_sales SELECT * FROM incoming_sales ON CONFLICT DO NOTHING")
    ).rowcount


def make_ahead(connection: Connection, months: int) -> None:
    """Make the partitions of this month, by the database's clock, and of so many ``months`` after it."""
    connection.execute(
        text("""
            SELECT make_fact_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + m * interval '1 month')::date)
            FROM generate_series(0, :months) m
        """),
        {"months": months},
    )


def _made(connection: Connection, days: list[int]) -> list[_Partition]:
    """All partitions, with one for each of these ascending days and one for the month after them."""
    # Against one that is detached between this look and the rows.
    connection.execute(text("LOCK TABLE ONLY fact_sales IN ROW EXCLUSIVE MODE"))
    partitions = _partitions(connection)
    last = date(1970, 1, 1) + timedelta(days=days[-1])
    months = range(_MONTHS.start * 12, _MONTHS.stop * 12)
    if (next_month := last.year * 12 + last.month) in months:
        days = [*days, (date(next_month // 12, next_month % 12 + 1, 1) - date(1970, 1, 1)).days]
    for day in days:
        if _of(partitions, day) is None:
            connection.execute(text("SELECT make_fact_partition(date '1970-01-01' + :day)"), {"day": day})
            partitions = _partitions(connection)
    return partitions


def _partitions(connection: Connection) -> list[_Partition]:
    rows = connection.execute(
        text("""
            SELECT first_day - date '1970-01-01', after_day - date '1970-01-01', name, EXISTS (
                       SELECT FROM pg_inherits
                       WHERE inhrelid = partition AND inhparent = 'fact_sales'::regclass AND NOT inhdetachpending)
            FROM fact_partitions ORDER BY first_day
        """)
    )
    return [_Partition(*row) for row in rows]


def _of(partitions: list[_Partition], day: int) -> _Partition | None:
    i = bisect_right(partitions, day, key=lambda p: p.first) - 1
    return partitions[i] if i >= 0 and day < partitions[i].after else None


def _without_archived(sales: pl.DataFrame, partitions: list[_Partition]) -> pl.DataFrame:
    for p in (p for p in partitions if not p.is_attached):
        of_this = _DAYS.is_between(p.first, p.after, closed="left")
        if number := sales.filter(of_this).height:
            sales = sales.filter(~of_this)
            why = (
                f"The partition {p.name} of fact_sales was detached, so its late sales are not stored there. They "
                "count in the windows that they are in time for, and sales.late has those that missed one."
            )
            _log.warning("late sales of an archived partition", sales=number, why=why)
    return sales
