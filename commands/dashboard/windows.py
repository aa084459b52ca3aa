"""Sums of windows from Postgres, for the page."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

#: Windows of each size in a snapshot.
SHOWN = 40
_SIZES = text("SELECT sales_windows FROM pipeline_state")
# Finds the newest start of a size, then reads only the shown range of the primary key.
_WINDOWS = text("""
    SELECT extract(epoch FROM window_start)::float8 AS start, extract(epoch FROM window_end)::float8 AS "end",
           sum(transactions)::bigint AS transactions, sum(units_sold)::bigint AS units_sold,
           sum(units_returned)::bigint AS units_returned, sum(gross_sales)::float8 AS gross_sales,
           sum(returns_amount)::float8 AS returns_amount, sum(net_sales)::float8 AS net_sales,
           sum(revision)::bigint AS revisions, count(*) FILTER (WHERE revision > 0) AS revised, count(*) AS stores,
           CASE WHEN bool_or(state = 'open') THEN 'open' WHEN bool_or(state = 'fired') THEN 'fired' ELSE 'final' END
               AS state
    FROM sales_by_window
    WHERE window_size = CAST(:size AS interval)
      AND window_start > (SELECT max(window_start) FROM sales_by_window WHERE window_size = CAST(:size AS interval))
                         - CAST(:slide AS interval) * :shown
    GROUP BY window_start, window_end
    ORDER BY window_start
""")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _interval(written: str) -> str:
    return f"{int(written[:-1])} {_UNITS[written[-1]]}"


def newest(connection: Connection) -> list[dict[str, Any]]:
    """For each size of SALES_WINDOWS: its newest windows over all stores, oldest first. Times in s since 1970."""
    stored = connection.execute(_SIZES).scalar_one() or ""
    sizes = []
    for written in filter(None, stored.split(",")):
        size, _, slide = written.partition("/")
        asked = {"size": _interval(size), "slide": _interval(slide or size), "shown": SHOWN}
        rows = connection.execute(_WINDOWS, asked).mappings()
        sizes.append({"size": written, "rows": [dict(row) for row in rows]})
    return sizes


#: Groups that are shown; the sales of all others are one group more.
SHOWN_GROUPS = 7
#: What windows can be grouped by: the source of the sums, and the name of a group.
GROUPINGS: Mapping[str, tuple[str, str]] = {
    "category": ("sales_by_category_window", "category"),
    "store": ("sales_by_window", "'store ' || store_id"),
}
_GROUPED = """
    WITH sums AS MATERIALIZED (
        SELECT window_start, window_end, {name} AS name, transactions, units_sold, gross_sales, returns_amount,
               net_sales
        FROM {table}
        WHERE window_size = CAST(:size AS interval)
          AND window_start > (SELECT max(window_start) FROM sales_by_window WHERE window_size = CAST(:size AS interval))
                             - CAST(:slide AS interval) * :shown
    ), largest AS (
        SELECT name, row_number() OVER (ORDER BY sum(gross_sales) DESC, name) AS place FROM sums GROUP BY name
    )
    SELECT extract(epoch FROM window_start)::float8 AS start, extract(epoch FROM window_end)::float8 AS "end",
           CASE WHEN place <= :groups THEN name ELSE 'all others' END AS name,
           sum(transactions)::bigint AS transactions, sum(units_sold)::bigint AS units_sold,
           sum(gross_sales)::float8 AS gross_sales, sum(returns_amount)::float8 AS returns_amount,
           sum(net_sales)::float8 AS net_sales
    FROM sums JOIN largest USING (name)
    GROUP BY 1, 2, 3 ORDER BY 1, min(place)
"""


def some(connection: Connection, written: str, last: int, by: str | None) -> list[dict[str, Any]] | None:
    """The ``last`` newest windows of a size, over all stores or ``by`` a grouping; None if it is not one of ours."""
    if written not in (connection.execute(_SIZES).scalar_one() or "").split(","):
        return None
    size, _, slide = written.partition("/")
    asked = {"size": _interval(size), "slide": _interval(slide or size), "shown": last}
    if by is None:
        return [dict(row) for row in connection.execute(_WINDOWS, asked).mappings()]
    table, name = GROUPINGS[by]
    grouped = text(_GROUPED.format(table=table, name=name))
    return [dict(row) for row in connection.execute(grouped, {**asked, "groups": SHOWN_GROUPS}).mappings()]
