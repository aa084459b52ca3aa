"""Judges whether the windows of the planted sales count what they should, by the topics and the warehouse alone.

A window must count every clean sale in it, except those that missed it by `sales.late`. Of several sales with one
identity, the first in its partition counts. `verify` judges how late is too late; here, either the window counts a sale
or `sales.late` names the window. A copy that comes when its sale is no longer held changes nothing: all windows of the
sale are final by then, the copy is on `sales.late` or nowhere, and it is not the first.

Where the number of sales in a window cannot be known, every possible number (``least`` to ``most``) is right:

- a record on `sales.late` whose headers name no windows may have missed any of its own, and one without
  ``source.offset`` may have missed any window;
- an identity in two partitions, which only a producer that breaks the contract makes, counts once or twice.

A wrong count does not show which sale is missing or counted twice, so every planted sale of that window is missed. The
sums hold only sales that the warehouse has passed (``reached``), since the windows were read in one snapshot with its
positions.
"""

from commands.audit.engine import Engine
from retail_stream.entities import Entity

_PANE = "event_time - ((event_time % slide) + slide) % slide"


def misses(engine: Engine) -> None:
    """Make ``wrong_sales``, ``late_sales`` and ``sold_ids``.

    ``wrong_sales``: the places of planted sales with a wrong window. ``none``: it counts nothing; ``few``, ``many``: it
    counts too few or too many; ``unlike``: it has other units returned. ``late_sales``: the places on `sales.late`.
    ``sold_ids``: the transaction ids of the clean topic, with their number of ``identities``; ``awaited``: the
    warehouse has reached none of their records.

    Reads ``planted``, ``reached``, ``raw_sales``, ``clean_sales``, ``late``, ``warehouse_id``, ``window_sizes`` and
    ``window_counts``.
    """
    _sales(engine)
    _wrong_windows(engine)
    # A wrong window as its panes: a sale is in the window exactly when it is in one of them.
    engine.execute("""
        CREATE OR REPLACE TABLE wrong_panes AS
        SELECT size, slide, store_id, pane, bool_or(none) AS none, bool_or(few) AS few, bool_or(many) AS many,
               bool_or(unlike) AS unlike
        FROM (SELECT *, start + unnest(range(size // slide)) * slide AS pane FROM wrong_windows)
        GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE wrong_sales AS
        SELECT s.partition, s.offset, bool_or(none) AS none, bool_or(few) AS few, bool_or(many) AS many,
               bool_or(unlike) AS unlike
        FROM (SELECT *, {_PANE} AS pane FROM planted_sales, window_sizes) s
        JOIN wrong_panes w USING (size, pane, store_id)
        GROUP BY ALL
    """)


def _sales(engine: Engine) -> None:
    # The late sales of a warehouse that was dropped do not belong to this one.
    engine.execute("""
        CREATE OR REPLACE TABLE late_here AS SELECT * FROM late
        WHERE warehouse IS NULL OR warehouse IN (FROM warehouse_id) OR NOT EXISTS (FROM warehouse_id)
    """)
    engine.execute("""
        CREATE OR REPLACE TABLE late_sales AS
        SELECT partition, "offset", max(windows) AS windows FROM late_here WHERE "offset" IS NOT NULL GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE sold_ids AS
        SELECT transaction_id AS id, count(DISTINCT (event_time, store_id)) AS identities,
               bool_and(coalesce(c.offset > g.stored, false)) AS awaited
        FROM clean_sales c JOIN reached g ON g.entity = '{Entity.SALES}' AND g.partition = c.partition
        WHERE transaction_id IS NOT NULL GROUP BY 1
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE sold AS
        SELECT * FROM (
            SELECT c.* FROM clean_sales c JOIN reached g ON g.entity = '{Entity.SALES}' AND g.partition = c.partition
            WHERE c.offset <= coalesce(g.stored, c.offset) AND transaction_id IS NOT NULL
            QUALIFY row_number() OVER (
                PARTITION BY c.partition, replay_of, CASE WHEN replay_of IS NULL THEN c.offset END
                ORDER BY c.offset, position) = 1
        )
        QUALIFY row_number() OVER (PARTITION BY partition, transaction_id, event_time, store_id ORDER BY "offset") = 1
    """)
    # The times of the raw record, which exists even where the pipeline lost the clean one.
    engine.execute(f"""
        CREATE OR REPLACE TABLE planted_sales AS
        SELECT DISTINCT p.partition, p.offset, coalesce(r.event_time, c.event_time) AS event_time,
               CASE WHEN r.event_time IS NULL THEN c.store_id ELSE r.store_id END AS store_id
        FROM planted p
        LEFT JOIN raw_sales r ON r.partition = p.partition AND r.offset = p.offset
        LEFT JOIN clean_sales c ON c.partition = p.partition AND c.offset = p.offset
        WHERE p.entity = '{Entity.SALES}' AND coalesce(r.event_time, c.event_time) IS NOT NULL
    """)


def _wrong_windows(engine: Engine) -> None:
    """Make ``wrong_windows``: those of the planted sales' windows whose counts are wrong."""
    engine.execute(f"""
        CREATE OR REPLACE TABLE expected_counts AS
        WITH touched AS (
            SELECT DISTINCT size, slide, store_id, pane - unnest(range(size // slide)) * slide AS start
            FROM (SELECT DISTINCT size, slide, store_id, {_PANE} AS pane FROM planted_sales, window_sizes)
        ),
        panes AS (
            SELECT size, slide, store_id, {_PANE} AS pane, count(*) AS sales,
                   count(DISTINCT (transaction_id, event_time)) AS identities,
                   count(*) FILTER (l.offset IS NOT NULL AND l.windows IS NULL) AS vague,
                   coalesce(sum(-quantity) FILTER (quantity < 0), 0) AS units
            FROM sold s CROSS JOIN window_sizes
            LEFT JOIN late_sales l ON l.partition = s.partition AND l.offset = s.offset
            GROUP BY ALL
        ),
        filled AS (
            SELECT size, store_id, start, sum(sales) AS sales, sum(identities) AS identities, sum(vague) AS vague,
                   sum(units) AS units
            FROM (SELECT *, pane - unnest(range(size // slide)) * slide AS start FROM panes) GROUP BY ALL
        ),
        missed AS (
            SELECT partition, "offset", split_part(name, '@', 1)::BIGINT AS size,
                   split_part(name, '@', 2)::BIGINT AS start
            FROM (SELECT *, unnest(string_split(windows, ',')) AS name FROM late_sales)
        ),
        excused AS (
            SELECT m.size, s.store_id, m.start, count(*) AS sales,
                   coalesce(sum(-quantity) FILTER (quantity < 0), 0) AS units
            FROM missed m JOIN sold s ON s.partition = m.partition AND s.offset = m.offset
                AND m.start <= s.event_time AND s.event_time < m.start + m.size
            GROUP BY ALL
        )
        SELECT t.*, coalesce(f.sales, 0) - coalesce(e.sales, 0) AS most,
               coalesce(f.identities - f.vague, 0) - coalesce(e.sales, 0)
               - (SELECT count(*) FROM late_here WHERE "offset" IS NULL) AS least,
               coalesce(f.units, 0) - coalesce(e.units, 0) AS units
        FROM touched t
        LEFT JOIN filled f USING (size, store_id, start)
        LEFT JOIN excused e USING (size, store_id, start)
    """)
    engine.execute("""
        CREATE OR REPLACE TABLE wrong_windows AS
        SELECT * FROM (
            SELECT d.size, d.slide, d.store_id, d.start, tally < least AND tally = 0 AS none, tally < least AS few,
                   tally > most AS many, least = most AND returned <> units AS unlike
            FROM (
                SELECT d.*, coalesce(w.transactions, 0) AS tally, coalesce(w.units_returned, 0) AS returned
                FROM expected_counts d LEFT JOIN window_counts w USING (size, store_id, start)
            ) d
        ) WHERE few OR many OR unlike
    """)
