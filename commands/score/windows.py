"""Judges whether the windows of the planted sales count what they should, by the topics and the warehouse alone.

A window must count every clean sale in it, except those that missed it by `sales.late`. Of several sales with one
identity, the first in its partition counts. Where the pipeline stores its settings, a planted sale on `sales.late` must
have been too late for each window that is named there. A copy that comes when its sale is no longer held changes
nothing: all windows of the sale are final by then, the copy is on `sales.late` or nowhere, and it is not the first.

Where the number of sales in a window cannot be known, every possible number (``least`` to ``most``) is right:

- a record on `sales.late` whose headers name no windows may have missed any of its own, and one without
  ``source.offset`` may have missed any window;
- an identity in two partitions, which only a producer that breaks the contract makes, counts once or twice.

A wrong count does not show which sale is missing or counted twice, so every planted sale of that window is missed. So
is each of a window with the right count and other sums. The sums hold only sales that the warehouse has passed
(``reached``), since the windows were read in one snapshot with its positions.
"""

from commands.audit.engine import Engine
from commands.audit.windows import COUNTS, MONEY
from retail_stream.entities import Entity

#: Measure of a window → SQL of a sale's part in it, money in cents.
_PARTS = {
    "units_sold": "CASE WHEN quantity > 0 THEN quantity ELSE 0 END",
    "units_returned": "CASE WHEN quantity < 0 THEN -quantity ELSE 0 END",
    "gross_sales": "CASE WHEN quantity >= 0 THEN round_even(total_amount * 100, 0)::BIGINT ELSE 0 END",
    "returns_amount": "CASE WHEN quantity < 0 THEN -round_even(total_amount * 100, 0)::BIGINT ELSE 0 END",
    "discounts": "round_even(discount_applied * 100, 0)::BIGINT",
    "taxes": "round_even(tax_amount * 100, 0)::BIGINT",
}
_MEASURES = tuple(_PARTS)
assert {*_MEASURES, "transactions", "net_sales"} == {*COUNTS, *MONEY}
_SUMS = ", ".join(f"sum({part})::BIGINT AS {name}" for name, part in _PARTS.items())
_PANE = "event_time - ((event_time % slide) + slide) % slide"


def misses(engine: Engine) -> None:
    """Make ``wrong_sales``, ``late_sales``, ``early_sales`` and ``sold_ids``.

    ``wrong_sales``: the places of planted sales with a wrong window. ``none``: it counts nothing; ``few``, ``many``: it
    counts too few or too many; ``unlike``: it has other units returned; ``other``: other sums. ``late_sales``: the
    places on `sales.late`; ``early_sales``: those of them that were in time. ``sold_ids``: the transaction ids of the
    clean topic, with their number of ``identities``; ``awaited``: the warehouse has reached none of their records.

    Reads ``planted``, ``reached``, ``raw_sales``, ``clean_sales``, ``late``, ``rises``, ``warehouse_id``, ``settings``,
    ``window_sizes`` and ``window_counts``.
    """
    _sales(engine)
    _early_sales(engine)
    _wrong_windows(engine)
    # A wrong window as its panes: a sale is in the window exactly when it is in one of them.
    engine.execute("""
        CREATE OR REPLACE TABLE wrong_panes AS
        SELECT size, slide, store_id, pane, bool_or(none) AS none, bool_or(few) AS few, bool_or(many) AS many,
               bool_or(unlike) AS unlike, bool_or(other) AS other
        FROM (SELECT *, start + unnest(range(size // slide)) * slide AS pane FROM wrong_windows)
        GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE wrong_sales AS
        SELECT s.partition, s.offset, bool_or(none) AS none, bool_or(few) AS few, bool_or(many) AS many,
               bool_or(unlike) AS unlike, bool_or(other) AS other
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


def _early_sales(engine: Engine) -> None:
    """Make ``early_sales``: places on `sales.late` that name a window which was not final when the sale came.

    The watermark before a sale is the largest time before it in its partition, less the delay, or a rise that was
    recorded. Only sales that the warehouse has passed are judged: what it had recorded by then is loaded.
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE early_sales AS
        WITH marked AS (
            SELECT c.partition, c.offset, position, delay, lateness,
                   max(least(event_time, ts)) OVER (
                       PARTITION BY c.partition ORDER BY c.offset, position
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                   ) - delay AS own
            FROM clean_sales c CROSS JOIN settings WHERE delay IS NOT NULL AND lateness IS NOT NULL
        ), named AS (
            SELECT partition, "offset", split_part(name, '@', 1)::BIGINT + split_part(name, '@', 2)::BIGINT AS until
            FROM (SELECT *, unnest(string_split(windows, ',')) AS name FROM late_sales)
        )
        SELECT DISTINCT m.partition, m.offset
        FROM marked m JOIN named n ON n.partition = m.partition AND n.offset = m.offset
        JOIN reached g ON g.entity = '{Entity.SALES}' AND g.partition = m.partition
        WHERE m.offset <= coalesce(g.stored, m.offset) AND until + lateness > coalesce(greatest(own, (
            SELECT max(r.watermark) FROM rises r WHERE r.partition = m.partition AND r.next_offset <= m.position
        )), until + lateness - 1)
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
                   count(*) FILTER (l.offset IS NOT NULL AND l.windows IS NULL) AS vague, {_SUMS}
            FROM sold s CROSS JOIN window_sizes
            LEFT JOIN late_sales l ON l.partition = s.partition AND l.offset = s.offset
            GROUP BY ALL
        ),
        filled AS (
            SELECT size, store_id, start, sum(sales) AS sales, sum(identities) AS identities, sum(vague) AS vague,
                   {", ".join(f"sum({m})::BIGINT AS {m}" for m in _MEASURES)}
            FROM (SELECT *, pane - unnest(range(size // slide)) * slide AS start FROM panes) GROUP BY ALL
        ),
        missed AS (
            SELECT partition, "offset", split_part(name, '@', 1)::BIGINT AS size,
                   split_part(name, '@', 2)::BIGINT AS start
            FROM (SELECT *, unnest(string_split(windows, ',')) AS name FROM late_sales)
        ),
        excused AS (
            SELECT m.size, s.store_id, m.start, count(*) AS sales, {_SUMS}
            FROM missed m JOIN sold s ON s.partition = m.partition AND s.offset = m.offset
                AND m.start <= s.event_time AND s.event_time < m.start + m.size
            GROUP BY ALL
        )
        SELECT t.*, coalesce(f.sales, 0) - coalesce(e.sales, 0) AS most,
               coalesce(f.identities - f.vague, 0) - coalesce(e.sales, 0)
               - (SELECT count(*) FROM late_here WHERE "offset" IS NULL) AS least,
               {", ".join(f"coalesce(f.{m}, 0) - coalesce(e.{m}, 0) AS {m}" for m in _MEASURES)}
        FROM touched t
        LEFT JOIN filled f USING (size, store_id, start)
        LEFT JOIN excused e USING (size, store_id, start)
    """)
    other = " OR ".join(f"coalesce(w.{m}, 0) <> d.{m}" for m in _MEASURES)
    other += " OR coalesce(w.net_sales, 0) <> d.gross_sales - d.returns_amount - d.discounts"
    engine.execute(f"""
        CREATE OR REPLACE TABLE wrong_windows AS
        SELECT * FROM (
            SELECT d.size, d.slide, d.store_id, d.start, tally < least AND tally = 0 AS none, tally < least AS few,
                   tally > most AS many, tally = least AND least = most AND unlike AS unlike,
                   tally = least AND least = most AND other AS other
            FROM (
                SELECT d.*, coalesce(w.transactions, 0) AS tally, {other} AS other,
                       coalesce(w.units_returned, 0) <> d.units_returned AS unlike
                FROM expected_counts d LEFT JOIN window_counts w USING (size, store_id, start)
            ) d
        ) WHERE (few OR many OR other) AND start >= coalesce((SELECT max(since) FROM kept_since), start)
    """)
