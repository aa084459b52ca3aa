"""Checks that the records of the result topics come from the outbox in its order, and what they say of watermarks."""

from commands.audit.engine import Engine, count
from commands.verify.compare import listed
from commands.verify.report import Check
from retail_stream.entities import Entity
from retail_stream.topics import Result, clean

#: A record's clock and the brokers' may differ by this much, and an event may be ahead of its record (microseconds).
_CLOCKS_US = 900_000_000
_TABLES = {Result.WINDOWS: "window_results", Result.LATE: "late_results", Result.WATERMARKS: "rises"}


def outbox_check(engine: Engine) -> Check:
    """The line of ``outbox``: its ids on the three result topics. Each is given once, and they ascend in a partition.

    Records of another warehouse come before those of this one. ``outbox_end`` is the last id that was given, null if
    the user may not know it.
    """
    own_partition = {Result.WATERMARKS: "published"}
    selects = (
        f"SELECT '{topic}' AS topic, {own_partition.get(topic, 'partition')} AS partition, \"offset\", warehouse,"
        f" number, headers FROM {table}"
        for topic, table in _TABLES.items()
    )
    engine.execute(f"""
        CREATE OR REPLACE TABLE results AS
        SELECT r.*, r.warehouse IN (SELECT id FROM warehouse_id) AS own,
               "offset" IS NULL OR "offset" < p.end_offset AS early
        FROM ({" UNION ALL ".join(selects)}) r LEFT JOIN published p USING (topic, partition)
        WHERE warehouse IS NOT NULL
    """)
    place = "topic || '/' || partition || '@' || \"offset\""
    before = 'PARTITION BY topic, partition ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING'
    wrong = listed(
        engine,
        f"""
        SELECT {place} || ': ' || CASE
            WHEN number IS NULL THEN 'its outbox.id has no number'
            WHEN NOT own THEN 'is of the warehouse ' || warehouse || ', and behind records of this one'
            WHEN times > 1 THEN 'its outbox.id ' || number || ' was published ' || times || ' times'
            WHEN early AND number > last_id
                THEN 'its outbox.id ' || number || ' was never given; the last is ' || last_id
            ELSE 'its outbox.id ' || number || ' is not above ' || newest || ', which is before it' END
        FROM (
            SELECT *, max(CASE WHEN own THEN number END) OVER ({before}) AS newest,
                   count(*) FILTER (own) OVER (PARTITION BY warehouse, number) AS times,
                   (SELECT last_id FROM outbox_end) AS last_id
            FROM results WHERE "offset" IS NOT NULL
        )
        WHERE number IS NULL OR (NOT own AND newest IS NOT NULL)
           OR (own AND (times > 1 OR (early AND number > last_id) OR number <= newest))
        UNION ALL
        SELECT {place} || ': has headers that no result has: ' || decode(headers)
        FROM results WHERE own AND headers IS NOT NULL AND topic <> '{Result.LATE}'
        UNION ALL
        SELECT 'id ' || number || ' of the outbox: has headers that no result has: ' || decode(headers)
        FROM results WHERE "offset" IS NULL AND headers IS NOT NULL AND topic <> '{Result.LATE}'
        """,
    )
    own = 'results WHERE own AND "offset" IS NOT NULL'
    there = count(engine, f"(SELECT DISTINCT number FROM {own})")
    return Check("outbox", count(engine, f"(FROM {own})"), there, wrong.count, wrong.examples)


def rise_check(engine: Engine) -> Check:
    """The line of `sales.watermarks`: what the recorded rises of all warehouses say, and the stored copies of some."""
    place = f"'{Result.WATERMARKS}/' || r.published || '@' || coalesce(r.\"offset\"::VARCHAR, 'outbox')"
    sales = clean(Entity.SALES)
    wrong = listed(
        engine,
        f"""
        SELECT {place} || ': ' || CASE
            WHEN r.partition IS NULL THEN 'cannot be decoded'
            WHEN r.warehouse IS NULL THEN 'is not from the outbox of any warehouse'
            WHEN r.key IS DISTINCT FROM encode(r.partition::VARCHAR) THEN 'its key is not the partition ' || r.partition
            WHEN r.published <> r.partition THEN 'is of partition ' || r.partition
            WHEN r.watermark > r.ts + {_CLOCKS_US} THEN 'its watermark ' || make_timestamp(r.watermark)
                || ' is ahead of its own time'
            ELSE 'next_offset ' || r.next_offset || ' is not within {sales}, which ends at ' || coalesce(e."end", 0) END
        FROM rises r LEFT JOIN ends e ON e.topic = '{sales}' AND e.partition = r.partition
        WHERE r.partition IS NULL OR r.warehouse IS NULL
           OR r.key IS DISTINCT FROM encode(r.partition::VARCHAR) OR r.published <> r.partition
           OR r.watermark > r.ts + {_CLOCKS_US} OR r.next_offset < 0 OR r.next_offset > coalesce(e."end", 0)
        UNION ALL
        SELECT 'replayed_rises partition ' || s.partition || ' next_offset ' || s.next_offset || ' watermark '
               || make_timestamp(s.watermark) || ': is not on {Result.WATERMARKS}'
        FROM replayed_rises s ANTI JOIN rises r USING (partition, next_offset, watermark)
        """,
    )
    there = count(engine, "rises")
    return Check(Result.WATERMARKS.value, there, there, wrong.count, wrong.examples)
