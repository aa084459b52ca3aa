"""Checks that `sales.windows` and `sales.late` hold every result of the warehouse exactly once.

The topics are read after the snapshot of the warehouse, so they may hold newer results. A record counts as unexpected
only before the offset in ``published``, where the topic ended before the snapshot was taken.
"""

from collections.abc import Sequence

from commands.audit.engine import Engine, count
from commands.audit.windows import COUNTS, MONEY, Grouping, Size
from commands.verify.compare import Column, Differences, Format, check, columns, differences, listed
from commands.verify.facts import KEYS, OF_SALES, VALUES
from commands.verify.report import Check
from commands.verify.windows import MEASURES, in_session
from retail_stream.topics import Result

_STAMP = "strftime(make_timestamp({}), '%Y-%m-%dT%H:%M:%S.%fZ')"
_WINDOW = (
    Column("kind"),
    Column("window_size", Format.DURATION),
    Column("window_start", Format.TIME),
    Column("id", Format.RAW),
    Column("revision"),
    Column("state"),
)


def _make_own(engine: Engine, topic: Result, table: str) -> None:
    """Make ``own_<table>``: the records of this warehouse, and those that name none.

    ``early``: the record was in the outbox or on the topic before the snapshot, so the snapshot has its result.
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE own_{table} AS
        SELECT t.*, t.offset IS NULL OR t.offset < p.end_offset AS early
        FROM {table} t
        LEFT JOIN published p ON p.topic = '{topic}' AND p.partition = t.partition
        WHERE t.warehouse IS NULL OR t.warehouse IN (SELECT id FROM warehouse_id)
    """)


def window_results(engine: Engine, groupings: Sequence[Grouping], lateness: int = 0) -> Check:
    """The line of `sales.windows`: each revision fired once, the last as final too; the newest has the row's sums.

    A session without a row was taken back: its last revision is empty, and its start is a sale of a longer session.
    ``lateness``: ALLOWED_LATENESS_S in microseconds; with sessions, it reads ``counted``.
    """
    _make_own(engine, Result.WINDOWS, "window_results")
    rows = " UNION ALL ".join(
        f"SELECT '{g.kind}' AS kind, window_size, window_start, {g.column}::VARCHAR AS id, revision, state, window_end,"
        f" {', '.join(m if m in g.measures else f'NULL::BIGINT AS {m}' for m in (*COUNTS, *MONEY))}"
        f" FROM {g.table} WHERE state <> 'open' OR revision > 0"
        for g in groupings
    )
    keys = ", ".join(k.name for k in _WINDOW)
    engine.execute(f"""
        CREATE OR REPLACE TABLE first_window_results AS
        SELECT t.* EXCLUDE (early) REPLACE (id::VARCHAR AS id), bool_or(early) OVER (PARTITION BY {keys}) AS early,
               count(*) FILTER (t.offset IS NOT NULL) OVER (PARTITION BY {keys}) AS times
        FROM own_window_results t
        QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY t.offset NULLS LAST) = 1
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE expected_window_results AS
        WITH settled AS ({rows})
        SELECT * REPLACE (unnest(range(revision + (state <> 'open')::BIGINT)) AS revision, 'fired' AS state),
               revision AS last FROM settled
        UNION ALL BY NAME
        SELECT *, revision AS last FROM settled WHERE state = 'final'
    """)
    sessions = [g for g in groupings if g.is_session]
    for grouping in sessions:
        _expect_merged(engine, grouping)
    wanted = f"SELECT {keys} FROM expected_window_results"
    relevant = f"""
        SELECT h.* FROM first_window_results h LEFT JOIN expected_window_results d USING ({keys})
        WHERE h.early OR d.kind IS NOT NULL
    """
    missing = differences(engine, wanted, f"SELECT {keys} FROM ({relevant}) WHERE kind IS NOT NULL", _WINDOW, ())
    values = (Column("window_end", Format.TIME), *MEASURES)
    newest = f"FROM expected_window_results d JOIN first_window_results h USING ({keys}) WHERE d.revision = d.last"
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
            WHEN key IS DISTINCT FROM encode(id) THEN 'its key is not the id ' || coalesce(id, 'nothing')
            ELSE 'was published ' || times || ' times' END
        FROM first_window_results
        WHERE "offset" IS NOT NULL
          AND (kind IS NULL OR warehouse IS NULL OR key IS DISTINCT FROM encode(id) OR times > 1)
        """,
    )
    figures = count(engine, "expected_window_results"), count(engine, f"({relevant})")
    differing = missing + wrong + odd
    for grouping in sessions:
        differing += _odd_merged(engine, grouping, lateness)
    return Check("sales.windows", *figures, differing.count, differing.examples)


def _merged(grouping: Grouping) -> str:
    """SQL: the results of before the snapshot that take a session back."""
    return f"first_window_results WHERE kind = '{grouping.kind}' AND state = 'merged' AND early"


def _expect_merged(engine: Engine, grouping: Grouping) -> None:
    """Add to ``expected_window_results`` what is expected of the sessions that were taken back."""
    engine.execute(f"""
        INSERT INTO expected_window_results BY NAME
        WITH taken AS (
            SELECT kind, window_size, window_start, id, window_start AS window_end, revision, revision AS last, state,
                   {", ".join(f"0 AS {m}" for m in (*COUNTS, *MONEY) if m in grouping.measures)}
            FROM {_merged(grouping)}
        )
        SELECT * FROM taken
        UNION ALL
        SELECT * REPLACE (unnest(range(revision)) AS revision, 'fired' AS state) FROM taken
    """)


def _odd_merged(engine: Engine, grouping: Grouping, lateness: int) -> Differences:
    (window,) = grouping.sizes
    in_time = f"SELECT {grouping.id}::VARCHAR AS id, event_time FROM counted WHERE {in_session(window, lateness)}"
    return listed(
        engine,
        f"""
        WITH sales AS ({in_time}), taken AS (
            SELECT *, (id, window_start) IN (
                SELECT ({grouping.column}::VARCHAR, window_start) FROM {grouping.table}) AS there
            FROM {_merged(grouping)}
        ), longer AS (
            SELECT DISTINCT t.id, t.window_start
            FROM taken t JOIN sales s ON s.id = t.id AND s.event_time = t.window_start
            JOIN sales b ON b.id = t.id AND b.event_time >= t.window_start - {window.size}
                AND b.event_time < t.window_start
        )
        SELECT 'sales.windows: kind {grouping.kind} id ' || id || ' window_start ' || make_timestamp(window_start)
               || ' is merged, and ' || CASE WHEN there THEN 'has a row' ELSE 'not part of a longer session' END
        FROM taken WHERE there OR (id, window_start) NOT IN (SELECT (id, window_start) FROM longer)
        """,
    )


def late_sales(engine: Engine, windows: Sequence[Size], lateness: int) -> Check:
    """The line of `sales.late`: every sale of ``counted`` that is too late for a window, once, with the reason."""
    _make_own(engine, Result.LATE, "late_results")
    missed = " UNION ALL ".join(
        f"""
        SELECT partition, "offset", {w.size} AS size, {w.pane} + back * {w.slide} AS until, before, '{w.name}' AS name
        FROM counted, range(1, {w.size // w.slide + 1}) AS r(back) WHERE too_late
        """
        for w in windows
    )
    by = f"(before - until - {lateness})"
    engine.execute(f"""
        CREATE OR REPLACE TABLE expected_late_results AS
        SELECT m.partition, m.offset AS source_offset, any_value(r.ts) AS ts, any_value(r.key) AS key,
               any_value(r.body) AS body, any_value(f.offset) AS clean_offset,
               any_value(f.rules_version) AS rules_version, any_value(r.headers) AS headers,
               string_agg(name || '@' || {_STAMP.format("until - size")}, ',' ORDER BY size, until) AS late_windows,
               string_agg({by} // 1000000 || '.' || lpad(({by} % 1000000)::VARCHAR, 6, '0'), ',' ORDER BY size, until)
                   AS late_by_s,
               any_value({_STAMP.format("before")}) AS late_watermark,
               string_agg(size::VARCHAR, ',' ORDER BY size, until) AS window_sizes,
               string_agg((until - size)::VARCHAR, ',' ORDER BY size, until) AS window_starts,
               string_agg({by}::VARCHAR, ',' ORDER BY size, until) AS late_by,
               any_value(before) AS watermark
        FROM ({missed}) m JOIN raw_sales r ON r.partition = m.partition AND r.offset = m.offset
        LEFT JOIN first_sales f ON f.partition = m.partition AND f.source_offset = m.offset
        WHERE before >= until + {lateness}
        GROUP BY m.partition, m.offset
    """)
    engine.execute("""
        CREATE OR REPLACE TABLE first_late_results AS
        SELECT t.* EXCLUDE (early), bool_or(early) OVER (PARTITION BY t.partition, source_offset) AS early,
               count(*) FILTER (t.offset IS NOT NULL) OVER (PARTITION BY t.partition, source_offset) AS times
        FROM own_late_results t
        QUALIFY row_number() OVER (PARTITION BY t.partition, source_offset ORDER BY t.offset NULLS LAST) = 1
    """)
    # The outbox cannot hold U+0000 in the name of a header.
    relevant = r"""
        SELECT h.* REPLACE (
            CASE WHEN contains(decode(d.headers), '\\x00') THEN d.headers ELSE h.headers END AS headers)
        FROM first_late_results h LEFT JOIN expected_late_results d USING (partition, source_offset)
        WHERE source_offset IS NOT NULL AND (h.early OR d.body IS NOT NULL)
    """
    keys = columns("partition", "source_offset")
    values = (Column("ts", Format.TIME), *columns("key", "body", "late_windows", "late_by_s", "late_watermark"))
    values += columns("rules_version", "clean_offset", "headers")
    differing = differences(engine, "expected_late_results", relevant, keys, values, "sales.raw") + _odd_late(engine)
    return Check(
        "sales.late",
        count(engine, "expected_late_results"),
        count(engine, f"({relevant})"),
        differing.count,
        differing.examples,
    )


def late_table(engine: Engine) -> Check:
    """The line of ``late_sales``: what :func:`late_sales` expects on the topic, with the sale.

    Sales that an earlier release stored are on the topic only.
    """
    wanted = f"""
        SELECT s.*, 1 AS nth, e.window_sizes, e.window_starts, e.late_by, e.watermark
        FROM expected_late_results e
        JOIN (SELECT {OF_SALES} FROM sales) s USING (source_offset)
        LEFT JOIN stored_before b ON b.partition = e.partition
        WHERE s.source_partition = e.partition AND coalesce(e.source_offset > b.source_offset, true)
    """
    rows = "SELECT *, row_number() OVER (PARTITION BY source_partition, source_offset) AS nth FROM late_sales"
    keys = columns("source_partition", "source_offset", "nth")
    why = (*columns("window_sizes", "window_starts", "late_by"), Column("watermark", Format.TIME))
    values = [*KEYS, *(v for v in VALUES if v not in keys), *why]
    return check(engine, "late_sales", wanted, rows, keys, values)


def _odd_late(engine: Engine) -> Differences:
    return listed(
        engine,
        """
        SELECT 'sales.late/' || partition || '@' || "offset" || ': ' || CASE
            WHEN source_offset IS NULL THEN 'has no source.offset'
            WHEN warehouse IS NULL THEN 'is not from the outbox of any warehouse'
            ELSE 'was published ' || times || ' times' END
        FROM first_late_results
        WHERE "offset" IS NOT NULL AND (source_offset IS NULL OR warehouse IS NULL OR times > 1)
        """,
    )
