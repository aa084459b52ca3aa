"""Checks the views and tables by which people see how far the pipeline is, and where the facts are."""

from commands.audit.engine import Engine, count
from commands.verify.compare import Column, Format, check, columns, listed
from commands.verify.report import Check
from retail_stream.topics import Group

#: Microseconds by which a clock may be set forward meanwhile, and between two looks at partitions that are idle.
_CLOCK_STEP, _LOOKS = 10_000_000, 120_000_000
#: What Postgres says of the partitions of ``fact_sales``: the bounds are texts such as FROM ('2026-03-01 …') TO (…).
ATTACHED = """
    SELECT name, (extract(epoch FROM first::timestamptz) / 86400)::bigint AS first_day,
           (extract(epoch FROM after::timestamptz) / 86400)::bigint AS after_day
    FROM (
        SELECT name, substring(bounds FROM 'FROM \\(''([^'']+)') AS first,
               substring(bounds FROM 'TO \\(''([^'']+)') AS after
        FROM (
            SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'fact_sales'::regclass
        ) attached
    ) days
"""
FACT_PARTITIONS = """
    SELECT p.name, coalesce(c.relname, '')::text AS relation, coalesce(c.relispartition, false) AS is_attached,
           (p.first_day - date '1970-01-01')::bigint AS first_day,
           (p.after_day - date '1970-01-01')::bigint AS after_day
    FROM fact_partitions p LEFT JOIN pg_class c ON c.oid = p.partition
"""


def position_view_check(engine: Engine) -> Check:
    """The line of the view ``consumer_positions``: the rows of the table."""
    keys = columns("consumer_group", "topic", "partition")
    values = (*columns("epoch", "next_offset", "source_offset"), Column("updated_at", Format.TIME))
    return check(engine, "consumer_positions, the view", "positions", "shown_positions", keys, values)


def state_check(engine: Engine) -> Check:
    """The line of ``pipeline_state``. A partition's lease may run out while the tables are read."""
    rows = engine.execute("""
        SELECT s.watermark, w.watermark, s.outbox, (SELECT count(*) FROM outbox), s.sales_windows, windows.value,
               s.allowed_lateness_s, TRY_CAST(lateness.value AS DOUBLE), s.idle_partitions,
               (SELECT count(*) FILTER (idle) FROM partition_watermarks),
               (SELECT count(*) FILTER (leased) FROM partition_watermarks)
        FROM pipeline_state s LEFT JOIN (FROM stream_watermark LIMIT 1) w ON true
        LEFT JOIN settings windows ON windows.name = 'SALES_WINDOWS'
        LEFT JOIN settings lateness ON lateness.name = 'ALLOWED_LATENESS_S'
    """).fetchall()
    names = ("watermark", "outbox", "sales_windows", "allowed_lateness_s")
    wrong = []
    for *pairs, idle, most, least in rows:
        wrong += [
            f"{name} expected {wanted!r}, found {shown!r}"
            for name, shown, wanted in zip(names, pairs[::2], pairs[1::2], strict=True)
            if shown != wanted
        ]
        if not least <= idle <= most:
            wrong.append(f"idle_partitions expected {least} to {most}, found {idle}")
    return Check("pipeline_state", 1, len(rows), len(wrong), tuple(wrong))


def clock_check(engine: Engine) -> Check:
    """The line of `stream_watermark, its clock`: ``advanced_at``, from which real time is counted while all are idle.

    It is not before the last record that the aggregator took, which had ended the idleness.
    """
    wrong = listed(
        engine,
        f"""
        SELECT 'advanced_at is ' || make_timestamp(advanced_at) || ', and the last record was taken at '
               || make_timestamp(taken) || ', now is ' || make_timestamp(now)
        FROM (SELECT *, (SELECT max(updated_at) FROM positions WHERE consumer_group = '{Group.AGGREGATOR}') AS taken
              FROM stream_clock)
        WHERE advanced_at > now + {_CLOCK_STEP} OR advanced_at < taken - {_LOOKS}
        """,
    )
    there = count(engine, "stream_clock", "advanced_at IS NOT NULL")
    return Check("stream_watermark, its clock", there, there, wrong.count, wrong.examples)


def partition_check(engine: Engine) -> Check:
    """The line of ``fact_partitions``: a row with the days of each partition of ``fact_sales``. Others are archived."""
    wrong = listed(
        engine,
        """
        SELECT 'partition ' || a.name || CASE
            WHEN p.name IS NULL THEN ': has no row'
            ELSE ': days expected ' || a.first_day || ' to ' || a.after_day || ', found ' || p.first_day || ' to '
                 || p.after_day END
        FROM attached a LEFT JOIN fact_partitions p ON p.relation = a.name
        WHERE (p.first_day, p.after_day) IS DISTINCT FROM (a.first_day, a.after_day)
        UNION ALL
        SELECT 'name ' || name || ': is attached as ' || relation FROM fact_partitions
        WHERE is_attached AND name <> relation
        """,
    )
    there = count(engine, "attached")
    rows = count(engine, "fact_partitions", "is_attached")
    return Check("fact_partitions", there, rows, wrong.count, wrong.examples)
