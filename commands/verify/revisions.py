"""Checks the results of windows that later ones replaced: each holds the sums of a part of the window's sales.

Which sales come before a revision depends on how the aggregator read them, but of each partition it is always the first
ones. So the sums of a revision are those of a prefix of each partition::

    partition 0   a b c d        revision 0 may be a, ab + x, … and revision 1 abcd + x, …, but never b alone
    partition 1   x y

A session grows, so of each revision only the sales between its own first and last sale count.
"""

from collections.abc import Sequence

from commands.audit.engine import Engine, count
from commands.audit.windows import COUNTS, MONEY, Grouping
from commands.verify.compare import listed
from commands.verify.report import Check

#: The most combinations of prefixes that are summed. A window with more is compared with its next revision only.
_MOST = 500_000
_KEY = "kind, window_size, window_start, id"
#: A window as a revision has it: its sales are before ``until``.
_WINDOW = f"{_KEY}, until"
_SUMS = ("transactions", "units_sold", "units_returned", "gross_sales", "returns_amount", "discounts", "taxes")
_ALL = (*COUNTS, *MONEY)


def revision_check(engine: Engine, groupings: Sequence[Grouping], lateness: int) -> Check:
    """The line of `sales.windows, revisions`: those before the last, after ``window_results`` and the windows' judge.

    Reads ``expected_window_results``, ``first_window_results`` and ``counted``. ``lateness``: ALLOWED_LATENESS_S in
    microseconds.
    """
    sessions = ", ".join(f"'{g.kind}'" for g in groupings if g.is_session) or "NULL"
    engine.execute(f"""
        CREATE OR REPLACE TABLE earlier AS
        SELECT h.* REPLACE ({", ".join(_measured(groupings, f"h.{n}", n) for n in _SUMS)}),
               d.last, coalesce(h.kind IN ({sessions}), false) AS is_session,
               CASE WHEN is_session THEN h.window_end - h.window_size + 1 ELSE d.window_end END AS until
        FROM first_window_results h
        JOIN (SELECT DISTINCT {_KEY}, last, window_end FROM expected_window_results WHERE last > 0) d USING ({_KEY})
        WHERE h.state = 'fired' AND h.revision < d.last
    """)
    _attain(engine, groupings, lateness)
    place = "'kind ' || kind || ' window_size ' || window_size // 1000000 || ' s window_start '"
    place += " || make_timestamp(window_start) || ' id ' || id || ' revision ' || revision"
    sums = ", ".join(_SUMS)
    shown = " || ' ' || ".join(f"'{n} ' || {n}" for n in _SUMS)
    grown = " OR ".join(f"later.{n} < e.{n}" for n in _SUMS[:3])
    wrong = listed(
        engine,
        f"""
        SELECT {place} || ': these are not the sums of the first sales of its partitions: ' || {shown}
        FROM earlier e SEMI JOIN exact USING ({_WINDOW})
        ANTI JOIN (
            SELECT {_WINDOW}, {", ".join(_measured(groupings, n, n) for n in _SUMS)} FROM attained
        ) USING ({_WINDOW}, {sums})
        UNION ALL
        SELECT {place} || ': net_sales expected ' || gross_sales - returns_amount - discounts || ' cents, found '
               || net_sales FROM earlier WHERE net_sales <> gross_sales - returns_amount - discounts
        UNION ALL
        SELECT {place} || ': window_end expected ' || make_timestamp(until) || ', found ' || make_timestamp(window_end)
        FROM earlier WHERE window_end <> until AND NOT is_session
        UNION ALL
        SELECT {place} || ': no sale in time is at its begin, or the gap before its end' FROM earlier
        WHERE is_session AND ((kind, id, window_start) NOT IN (SELECT (kind, id, event_time) FROM in_sessions)
            OR (kind, id, until - 1) NOT IN (SELECT (kind, id, event_time) FROM in_sessions))
        UNION ALL
        SELECT {place.replace("revision", "e.revision").replace("' e.revision '", "' revision '")}
               || CASE WHEN later.window_end < e.window_end THEN ': ends later' ELSE ': counts more' END
               || ' than revision ' || later.revision
        FROM earlier e JOIN first_window_results later USING ({_KEY})
        WHERE later.state = 'fired' AND later.revision = e.revision + 1 AND ({grown} OR later.window_end < e.window_end)
        """,
    )
    there = count(engine, "earlier")
    rest = count(engine, f"(FROM earlier ANTI JOIN exact USING ({_WINDOW}))")
    note = f"{rest:,} compared with the next revision only" if rest else "" if there else "no window was revised"
    return Check("sales.windows, revisions", there, there, wrong.count, wrong.examples, note)


def _measured(groupings: Sequence[Grouping], value: str, name: str) -> str:
    """SQL: a value of the measure ``name``, or 0 where the record's kind does not have it."""
    without = [g.kind for g in groupings if name not in g.measures]
    wanted = f"CASE WHEN kind IN ({', '.join(map(repr, without))}) THEN 0 ELSE {value} END" if without else value
    return f"{wanted} AS {name}"


def _attain(engine: Engine, groupings: Sequence[Grouping], lateness: int) -> None:
    """Make ``exact``, the windows whose combinations are summed, and ``attained``, all sums of these combinations.

    And ``in_sessions``: kind, id and event_time of the sales that count in sessions.
    """
    ids = " UNION ALL ".join(
        f"SELECT '{g.kind}' AS kind, {g.id}::VARCHAR AS id,"
        f" {f'event_time + {g.sizes[0].size}' if g.is_session else 'NULL::BIGINT'} AS own_end, * FROM counted"
        for g in groupings
    )
    engine.execute(f"""
        CREATE OR REPLACE TABLE in_sessions AS
        SELECT DISTINCT kind, id, event_time FROM ({ids})
        WHERE own_end IS NOT NULL AND NOT duplicate AND coalesce(before < own_end + {lateness}, true)
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE prefixes AS
        WITH wanted AS (SELECT DISTINCT {_WINDOW} FROM earlier)
        SELECT {_WINDOW}, partition, count(*) OVER so_far AS transactions,
               coalesce(sum(quantity) FILTER (quantity > 0) OVER so_far, 0)::BIGINT AS units_sold,
               coalesce(sum(-quantity) FILTER (quantity < 0) OVER so_far, 0)::BIGINT AS units_returned,
               coalesce(sum(total_cents) FILTER (quantity >= 0) OVER so_far, 0)::BIGINT AS gross_sales,
               coalesce(sum(-total_cents) FILTER (quantity < 0) OVER so_far, 0)::BIGINT AS returns_amount,
               sum(discount_cents) OVER so_far::BIGINT AS discounts, sum(tax_cents) OVER so_far::BIGINT AS taxes
        FROM ({ids}) s JOIN wanted w USING (kind, id)
        WHERE NOT duplicate AND s.event_time >= window_start AND s.event_time < until
          AND coalesce(before < coalesce(own_end, until) + {lateness}, true)
        WINDOW so_far AS (PARTITION BY {_WINDOW}, partition ORDER BY "offset")
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE exact AS
        SELECT {_WINDOW} FROM (
            SELECT {_WINDOW}, exp(sum(ln(n + 1))) AS combined
            FROM (SELECT {_WINDOW}, partition, count(*) AS n FROM prefixes GROUP BY ALL) GROUP BY ALL
        ) QUALIFY sum(combined) OVER (ORDER BY combined, {_WINDOW}) <= {_MOST}
    """)
    zeros = ", ".join(f"0::BIGINT AS {n}" for n in _SUMS)
    engine.execute(f"CREATE OR REPLACE TABLE attained AS SELECT {_WINDOW}, {zeros} FROM exact")
    added = ", ".join(f"a.{n} + coalesce(p.{n}, 0) AS {n}" for n in _SUMS)
    for (partition,) in engine.execute("SELECT DISTINCT partition FROM prefixes ORDER BY 1").fetchall():
        engine.execute(f"""
            CREATE OR REPLACE TABLE attained AS
            SELECT DISTINCT {_WINDOW}, {added} FROM attained a LEFT JOIN (
                SELECT {_WINDOW}, {", ".join(_SUMS)} FROM prefixes WHERE partition = {partition}
                UNION ALL SELECT {_WINDOW}, {zeros} FROM exact
            ) p USING ({_WINDOW})
        """)
