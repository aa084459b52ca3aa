"""Checks every window of sales, summed again from the sales that were in time for it."""

from collections.abc import Sequence

from commands.audit.engine import Engine
from commands.audit.windows import COUNTS, MONEY, Grouping, Size
from commands.verify.compare import Column, Format, check, columns
from commands.verify.report import Check

MEASURES = (*columns(*COUNTS), *columns(*MONEY, format=Format.CENTS))


def expiry(windows: Sequence[Size], lateness: int) -> str:
    """SQL over ``sales``: the watermark, in microseconds, at which the last window of a sale is final."""
    return f"(greatest({', '.join(f'{w.pane} + {w.size}' for w in windows)}) + {lateness})"


def judge(engine: Engine, windows: Sequence[Size], lateness: int) -> None:
    """Make ``counted``: ``sales`` with ``duplicate`` and ``too_late``.

    ``duplicate``: an earlier record of its identity is still held, so it counts in no window and is not late.
    ``too_late``: it is, for at least one of its windows. ``lateness``: ALLOWED_LATENESS_S in microseconds.
    """
    first_end = f"least({', '.join(f'{w.pane} + {w.slide}' for w in windows)})"
    engine.execute(f"""
        CREATE OR REPLACE TABLE counted AS
        SELECT *, NOT duplicate AND coalesce(before >= {first_end} + {lateness}, false) AS too_late
        FROM (SELECT *, nth > 1 AND coalesce({expiry(windows, lateness)} > before, true) AS duplicate FROM sales)
    """)


def make_windows(engine: Engine, grouping: Grouping, lateness: int, watermark: int | None) -> None:
    """Make ``windows_<kind>`` of ``counted``: key, end, measures (money in cents) and state.

    ``watermark``: the stream's, in microseconds; None before the first, when every window is open.
    """
    column, table = grouping.column, made(grouping)
    engine.execute(f"""
        CREATE OR REPLACE TABLE {table} (
            window_size BIGINT, window_start BIGINT, {column} {"VARCHAR" if grouping.is_text else "BIGINT"},
            window_end BIGINT, {", ".join(f"{m} BIGINT" for m in (*COUNTS, *MONEY))}, state VARCHAR)
    """)
    now = "NULL::BIGINT" if watermark is None else str(watermark)
    for window in grouping.sizes:
        end, may_grow, sales = f"window_start + {window.size}", lateness, _aligned(window, lateness)
        if window.is_session:
            # A sale in time can join a session for the length of its gap.
            end, may_grow = f"max(event_time) + {window.size}", window.size + lateness
            sales = sessions(grouping, window, lateness)
        engine.execute(f"""
            INSERT INTO {table} BY NAME
            SELECT *, gross_sales - returns_amount - discounts AS net_sales,
                   CASE WHEN {now} >= window_end + {may_grow} THEN 'final'
                        WHEN {now} >= window_end THEN 'fired' ELSE 'open' END AS state
            FROM (
                SELECT {window.size} AS window_size, window_start, {grouping.id} AS {column},
                       {end} AS window_end,
                       count(*) AS transactions,
                       coalesce(sum(quantity) FILTER (quantity > 0), 0) AS units_sold,
                       coalesce(sum(-quantity) FILTER (quantity < 0), 0) AS units_returned,
                       coalesce(sum(total_cents) FILTER (quantity >= 0), 0) AS gross_sales,
                       coalesce(sum(-total_cents) FILTER (quantity < 0), 0) AS returns_amount,
                       sum(discount_cents) AS discounts,
                       sum(tax_cents) AS taxes
                FROM ({sales})
                GROUP BY window_start, {grouping.id}
            )
        """)


def _aligned(window: Size, lateness: int) -> str:
    """SQL: each sale of ``counted`` with the ``window_start`` of each of its windows that it is in time for."""
    return f"""
        SELECT * FROM (
            SELECT * EXCLUDE (back), {window.pane} - back * {window.slide} AS window_start
            FROM counted, range({window.size // window.slide}) AS r(back)
            WHERE NOT duplicate
        )
        WHERE coalesce(before < window_start + {window.size} + {lateness}, true)
    """


def in_session(window: Size, lateness: int) -> str:
    """SQL over ``counted``: whether a sale counts in sessions, as one that is too late for one of its own does not."""
    return f"(NOT duplicate AND coalesce(before < event_time + {window.size} + {lateness}, true))"


def sessions(grouping: Grouping, window: Size, lateness: int) -> str:
    """SQL: each sale of ``counted`` that is in time, with the ``window_start`` of its session.

    A session begins with a sale that is further than the gap behind the one before it, of the same id.
    """
    by_time = f"PARTITION BY {grouping.id} ORDER BY event_time"
    return f"""
        SELECT * EXCLUDE (begins),
               max(CASE WHEN begins THEN event_time END) OVER ({by_time}) AS window_start
        FROM (
            SELECT *, coalesce(event_time - lag(event_time) OVER ({by_time}) > {window.size}, true) AS begins
            FROM counted WHERE {in_session(window, lateness)}
        )
    """


def made(grouping: Grouping) -> str:
    """The engine's table of the windows as they should be."""
    return f"windows_{grouping.kind}"


def window_check(engine: Engine, grouping: Grouping) -> Check:
    """The line of a table of windows: every measure and the state of every row."""
    wanted, table = made(grouping), grouping.table
    keys = [Column("window_size", Format.DURATION), Column("window_start", Format.TIME), Column(grouping.column)]
    measures = [m for m in MEASURES if m.name in grouping.measures]
    values = [Column("window_end", Format.TIME), *measures, Column("state")]
    note = ""
    if (money := Column("net_sales", Format.CENTS)) in measures:
        both = [
            engine.execute(f"SELECT coalesce(sum(net_sales), 0) FROM {t}").fetchall()[0][0] for t in (wanted, table)
        ]
        note = " = ".join(["Σ net_sales", *map(money.show, both)])
    return check(engine, table, wanted, table, keys, values, note)
