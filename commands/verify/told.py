"""Checks 5 and 6: `sales.late` and `sales.windows` say what the warehouse knows, once.

The topics are read after the snapshot of the warehouse, so they may say more by then. A record counts as unexpected
only where it stands before ``published``: where the topic ended before the snapshot was taken.
"""

from collections.abc import Sequence

from commands.audit.engine import Engine, count
from commands.verify.compare import Column, Differences, Kind, columns, differences, listed
from commands.verify.report import Check
from commands.verify.windows import COUNTS, IDS, MEASURES, MONEY, TABLES, Size
from retail_stream.topics import Result

_STAMP = "strftime(make_timestamp({}), '%Y-%m-%dT%H:%M:%S.%fZ')"
_WINDOW = (
    Column("kind"),
    Column("window_size", Kind.SPAN),
    Column("window_start", Kind.TIME),
    Column("id"),
    Column("revision"),
    Column("state"),
)


def _known(engine: Engine, topic: Result, table: str) -> None:
    """Make ``mine_<table>``: this warehouse's records and strangers', ``early``: known to the snapshot for certain."""
    engine.execute(f"""
        CREATE OR REPLACE TABLE mine_{table} AS
        SELECT t.*, t.offset IS NULL OR t.offset < p.end_offset AS early
        FROM {table} t
        LEFT JOIN published p ON p.topic = '{topic}' AND p.partition = t.partition
        WHERE t.warehouse IS NULL OR t.warehouse = (SELECT id FROM warehouse_id)
    """)


def window_results(engine: Engine) -> Check:
    """The line of `sales.windows`: revisions 0 to the row's fired once each, and final once; the last with its sums."""
    _known(engine, Result.WINDOWS, "told_windows")
    rows = " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, window_size, window_start, {IDS[kind]} AS id, revision, state, window_end,"
        f" {', '.join((*COUNTS, *MONEY))} FROM {table} WHERE state <> 'open'"
        for kind, table in TABLES.items()
    )
    engine.execute(f"""
        CREATE OR REPLACE TABLE due_windows AS
        WITH settled AS ({rows})
        SELECT * REPLACE (unnest(range(revision + 1)) AS revision, 'fired' AS state), revision AS last FROM settled
        UNION ALL BY NAME
        SELECT *, revision AS last FROM settled WHERE state = 'final'
    """)
    keys = ", ".join(k.name for k in _WINDOW)
    engine.execute(f"""
        CREATE OR REPLACE TABLE had_windows AS
        SELECT t.* EXCLUDE (early), bool_or(early) OVER (PARTITION BY {keys}) AS early,
               count(*) FILTER (t.offset IS NOT NULL) OVER (PARTITION BY {keys}) AS times
        FROM mine_told_windows t
        QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY t.offset NULLS LAST) = 1
    """)
    due = f"SELECT {keys} FROM due_windows"
    relevant = (
        f"SELECT h.* FROM had_windows h LEFT JOIN due_windows d USING ({keys}) WHERE h.early OR d.kind IS NOT NULL"
    )
    missing = differences(engine, due, f"SELECT {keys} FROM ({relevant}) WHERE kind IS NOT NULL", _WINDOW, ())
    values = (Column("window_end", Kind.TIME), *MEASURES)
    newest = f"FROM due_windows d JOIN had_windows h USING ({keys}) WHERE d.revision = d.last"
    wrong = differences(
        engine,
        f"SELECT {keys}, {', '.join(f'd.{v.name}' for v in values)} {newest}",
        f"SELECT {keys}, {', '.join(f'h.{v.name}' for v in values)} {newest}",
        _WINDOW,
        values,
    )
    odd = listed(
        engine,
        """
        SELECT 'sales.windows/' || partition || '@' || "offset" || ': ' || CASE
            WHEN kind IS NULL THEN 'cannot be decoded'
            WHEN warehouse IS NULL THEN 'is not from the outbox of any warehouse'
            WHEN key IS DISTINCT FROM encode(id::VARCHAR) THEN 'its key is not the id ' || id
            ELSE 'is there ' || times || ' times' END
        FROM had_windows
        WHERE "offset" IS NOT NULL
          AND (kind IS NULL OR warehouse IS NULL OR key IS DISTINCT FROM encode(id::VARCHAR) OR times > 1)
        """,
    )
    found = count(engine, f"({relevant})")
    differing = missing + wrong + odd
    return Check("sales.windows", count(engine, "due_windows"), found, differing.count, differing.examples)


def late_sales(engine: Engine, windows: Sequence[Size], lateness: int) -> Check:
    """The line of `sales.late`: every sale of ``counted`` that is too late for a window, once, and why."""
    _known(engine, Result.LATE, "told_late")
    missed = " UNION ALL ".join(
        f"""
        SELECT partition, "offset", {w.size} AS size, {w.pane} + back * {w.slide} AS until, before, '{w.name}' AS name
        FROM counted, range(1, {w.size // w.slide + 1}) AS r(back) WHERE too_late
        """
        for w in windows
    )
    by = f"(before - until - {lateness})"
    engine.execute(f"""
        CREATE OR REPLACE TABLE due_late AS
        SELECT m.partition, m.offset AS source_offset, any_value(r.ts) AS ts, any_value(r.key) AS key,
               any_value(r.body) AS body,
               string_agg(name || '@' || {_STAMP.format("until - size")}, ',' ORDER BY size, until) AS late_windows,
               string_agg({by} // 1000000 || '.' || lpad(({by} % 1000000)::VARCHAR, 6, '0'), ',' ORDER BY size, until)
                   AS late_by_s,
               any_value({_STAMP.format("before")}) AS late_watermark
        FROM ({missed}) m JOIN raw_sales r ON r.partition = m.partition AND r.offset = m.offset
        WHERE before >= until + {lateness}
        GROUP BY m.partition, m.offset
    """)
    engine.execute("""
        CREATE OR REPLACE TABLE had_late AS
        SELECT t.* EXCLUDE (early), bool_or(early) OVER (PARTITION BY t.partition, source_offset) AS early,
               count(*) FILTER (t.offset IS NOT NULL) OVER (PARTITION BY t.partition, source_offset) AS times
        FROM mine_told_late t
        QUALIFY row_number() OVER (PARTITION BY t.partition, source_offset ORDER BY t.offset NULLS LAST) = 1
    """)
    relevant = """
        SELECT h.* FROM had_late h LEFT JOIN due_late d USING (partition, source_offset)
        WHERE source_offset IS NOT NULL AND (h.early OR d.body IS NOT NULL)
    """
    keys = columns("partition", "source_offset")
    values = (Column("ts", Kind.TIME), *columns("key", "body", "late_windows", "late_by_s", "late_watermark"))
    differing = differences(engine, "due_late", relevant, keys, values, "sales.raw") + _odd_late(engine)
    return Check(
        "sales.late", count(engine, "due_late"), count(engine, f"({relevant})"), differing.count, differing.examples
    )


def _odd_late(engine: Engine) -> Differences:
    return listed(
        engine,
        """
        SELECT 'sales.late/' || partition || '@' || "offset" || ': ' || CASE
            WHEN source_offset IS NULL THEN 'has no source.offset'
            WHEN warehouse IS NULL THEN 'is not from the outbox of any warehouse'
            ELSE 'is there ' || times || ' times' END
        FROM had_late
        WHERE "offset" IS NOT NULL AND (source_offset IS NULL OR warehouse IS NULL OR times > 1)
        """,
    )
