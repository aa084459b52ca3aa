"""Finds the watermark before each sale, and checks the stored positions and watermarks."""

from commands.audit.engine import Engine, count
from commands.verify.compare import Column, Format, check, columns, listed
from commands.verify.report import Check
from commands.verify.versions import consumed
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.topics import Group, Result

IDENTITY = "transaction_id, event_time, store_id"

_LEAST = -(2**62)
#: Microseconds by which a clock may be set forward meanwhile.
_CLOCK_STEP = 10_000_000
#: The consumers of clean topics.
CONSUMED = ((Group.AGGREGATOR, Entity.SALES), *((Group.SCD_MERGER, e) for e in DIMENSIONS))


def judge(engine: Engine, delay: int) -> None:
    """Make ``sales``: the good sales that the aggregator has passed.

    ``before``: the watermark of the partition before the sale, null before the first. ``nth`` numbers the records of
    one identity in a partition. Money is in cents: the double product, rounded half to even. ``delay``:
    WATERMARK_DELAY_S in microseconds.

    Reads ``rises`` (partition, next_offset in sales.clean, watermark). A rise holds from the first raw record that the
    clean topic has at that offset or later.
    """
    engine.execute("""
        CREATE OR REPLACE TABLE raised AS
        SELECT partition, after, max(max(watermark)) OVER (PARTITION BY partition ORDER BY after) AS watermark
        FROM (
            SELECT r.partition, r.watermark, coalesce(max(f.source_offset), -1) AS after
            FROM rises r LEFT JOIN first_sales f ON f.partition = r.partition AND f.offset < r.next_offset
            GROUP BY r.partition, r.next_offset, r.watermark
        ) GROUP BY partition, after
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE sales AS
        SELECT s.* EXCLUDE (own), greatest(s.own, r.watermark) AS before
        FROM (
            SELECT partition, "offset", ts, transaction_id, store_id, event_time, customer_id, product_id, quantity,
                   payment_method, unit_price, extra,
                   round_even(unit_price * 100, 0)::BIGINT AS unit_cents,
                   round_even(total_amount * 100, 0)::BIGINT AS total_cents,
                   round_even(discount_applied * 100, 0)::BIGINT AS discount_cents,
                   round_even(tax_amount * 100, 0)::BIGINT AS tax_cents,
                   max(least(event_time, ts)) OVER earlier - {delay} AS own,
                   row_number() OVER (PARTITION BY partition, {IDENTITY} ORDER BY "offset") AS nth
            FROM ({consumed(Entity.SALES, Group.AGGREGATOR)})
            WINDOW earlier AS
                (PARTITION BY partition ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) s ASOF LEFT JOIN raised r ON r.partition = s.partition AND r.after < s.offset
    """)


def partition_check(engine: Engine, delay: int) -> Check:
    """The line of ``partition_watermarks``, after :func:`judge`.

    A rise at the aggregator's own position may have been recorded after the snapshot, so the stored watermark may
    include it or not.
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE marks AS
        WITH own AS (
            SELECT partition, max(least(event_time, ts)) - {delay} AS mark FROM sales GROUP BY partition
        ), risen AS (
            SELECT r.partition, max(r.watermark) FILTER (r.next_offset < p.next_offset OR r.waiting) AS mark,
                   list(r.watermark) AS possible
            FROM rises r
            JOIN positions p ON p.consumer_group = '{Group.AGGREGATOR}' AND p.partition = r.partition
            WHERE r.next_offset <= p.next_offset
            GROUP BY r.partition
        )
        SELECT partition, CASE
            WHEN list_contains(possible, stored) AND coalesce(stored > certain, true) THEN stored
            ELSE certain END AS watermark
        FROM (
            SELECT w.partition, w.watermark AS stored, greatest(own.mark, risen.mark) AS certain, risen.possible
            FROM partition_watermarks w LEFT JOIN own USING (partition) LEFT JOIN risen USING (partition)
        )
    """)
    value = Column("watermark", Format.TIME)
    return check(engine, "partition_watermarks", "marks", "partition_watermarks", columns("partition"), [value])


def stream_check(engine: Engine) -> Check:
    """The line of ``stream_watermark``: how many partitions are not idle, and how many of them it is not ahead of.

    ``idle`` is what the aggregator stored; ``leased`` is whether that still holds by the database's clock. The worker
    that computed the watermark may have seen fewer leased partitions, which holds the watermark back and is right.
    """
    stream = stream_watermark(engine)
    now = "NULL::BIGINT" if stream is None else str(stream)
    is_at = f"coalesce({now}, {_LEAST})"
    shown = f"stream ' || {_shown(now)}"
    wrong = listed(
        engine,
        f"""
        SELECT 'partition ' || partition || ' is not idle, and is behind the stream: watermark '
               || {_shown("watermark")} || ', {shown}
        FROM partition_watermarks WHERE NOT idle AND {is_at} > coalesce(watermark, {_LEAST})
        UNION ALL
        SELECT 'the stream is behind all partitions that hold it back: the slowest ' || {_shown("min(watermark)")}
               || ', {shown}
        FROM partition_watermarks WHERE NOT leased
        HAVING bool_and(watermark IS NOT NULL) AND min(watermark) > {is_at}
        UNION ALL
        SELECT 'all partitions are idle, and the stream is behind one: ' || {_shown("max(watermark)")} || ', {shown}
        FROM partition_watermarks HAVING bool_and(leased) AND max(watermark) > {is_at}
        UNION ALL
        SELECT 'the stream is ahead of every partition by more than the time since the last sale: '
               || {_shown("furthest")} || ', {shown}
        FROM ({_further_than_time()}) WHERE {now} > coalesce(furthest + since, {_LEAST})
        UNION ALL
        SELECT 'the stream is behind a rise that it recorded: partition ' || r.partition || ' offset '
               || r.next_offset || ' watermark ' || {_shown("r.watermark")} || ', {shown}
        FROM rises r LEFT JOIN published p ON p.topic = '{Result.WATERMARKS}' AND p.partition = r.partition
        WHERE r.warehouse IN (SELECT id FROM warehouse_id) AND (r.waiting OR r."offset" < p.end_offset)
          AND r.watermark > {is_at}
        """,
    )
    awake = count(engine, "partition_watermarks", "NOT idle")
    return Check("stream_watermark", awake, awake - wrong.count, wrong.count, wrong.examples, "partitions not idle")


def _further_than_time() -> str:
    """SQL: the largest watermark of a partition, and the longest time for which the stream can have advanced from it.

    A worker that takes a record first raises the record's partition to the stream. The time of that is known where a
    position is right behind a record: ``updated_at``.
    """
    return f"""
        SELECT (SELECT max(watermark) FROM partition_watermarks) AS furthest,
               (SELECT now FROM stream_watermark) - max(updated_at) + {_CLOCK_STEP} AS since
        FROM positions p
        WHERE consumer_group = '{Group.AGGREGATOR}' AND next_offset - 1 IN (
            SELECT c."offset" FROM clean_{Entity.SALES} c WHERE c.partition = p.partition
        )
        HAVING count(*) > 0
    """


def _shown(time: str) -> str:
    return f"coalesce(make_timestamp({time})::VARCHAR, 'none')"


def stream_watermark(engine: Engine) -> int | None:
    """The stored watermark of the stream in microseconds; None before the first record."""
    rows = engine.execute("SELECT watermark FROM stream_watermark").fetchall()
    return rows[0][0] if rows else None
