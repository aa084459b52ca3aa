"""Sums of windows from Postgres, for the page."""

from typing import Any

from sqlalchemy import Connection, text

from commands.dashboard.groupings import groupings, seconds_of
from commands.dashboard.parameters import shown

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


#: Groups that are shown; the sales of all others are one group more, without a name.
SHOWN_GROUPS = 7
# The newest starts come from the end of an index, a step for each row of the shown windows.
_GROUPED = """
    WITH sums AS MATERIALIZED (
        SELECT window_start, window_end, {group} AS name, {columns}
        FROM {relation}
        WHERE window_size = make_interval(secs => :seconds)
          AND window_start >= (
              SELECT min(window_start) FROM (
                  SELECT DISTINCT window_start FROM {base} WHERE window_size = make_interval(secs => :seconds)
                  ORDER BY window_start DESC LIMIT :shown
              ) newest
          )
    ), largest AS (
        SELECT name, row_number() OVER (ORDER BY sum({first}) DESC, name) AS place FROM sums GROUP BY name
    )
    SELECT extract(epoch FROM window_start)::float8 AS start, extract(epoch FROM window_end)::float8 AS "end",
           CASE WHEN place <= :groups THEN name END AS name, {sums}
    FROM sums JOIN largest USING (name)
    GROUP BY 1, 2, 3 ORDER BY 1, min(place)
"""


def choices(connection: Connection) -> list[dict[str, Any]]:
    """For the page: what windows can be grouped by, with the sizes and measures of each."""
    usual = connection.execute(_SIZES).scalar_one() or ""
    found = (
        {"name": g.name, "sizes": g.sizes(connection, usual), "measures": g.measures} for g in groupings(connection)
    )
    return [choice for choice in found if choice["sizes"]]


def some(connection: Connection, written: str, last: int, by: str | None) -> list[dict[str, Any]]:
    """The ``last`` newest windows of a size, over all stores or ``by`` a grouping. A measure that it lacks is absent.

    Raises:
        ValueError: the grouping is not declared, or has no windows of this size; a predicate with what is allowed.
    """
    usual = connection.execute(_SIZES).scalar_one() or ""
    grouping = None
    if by is not None:
        found = {g.name: g for g in groupings(connection)}
        if (grouping := found.get(by)) is None:
            raise ValueError(f"by={shown(by)} is not valid; allowed: {', '.join(found)}.")
    sizes = grouping.sizes(connection, usual) if grouping else usual.split(",")
    if written not in sizes:
        raise ValueError(
            f"size={shown(written)} is not valid; allowed: {', '.join(filter(None, sizes)) or 'none yet'}."
        )
    size, _, slide = written.partition("/")
    if grouping is None:
        asked = {"size": _interval(size), "slide": _interval(slide or size), "shown": last}
        return [dict(row) for row in connection.execute(_WINDOWS, asked).mappings()]
    query = _GROUPED.format(
        group=grouping.group,
        relation=grouping.relation,
        base=grouping.base,
        columns=", ".join(grouping.measures),
        first=grouping.measures[0],
        sums=grouping.sums,
    )
    named = {"seconds": seconds_of(size), "shown": last, "groups": SHOWN_GROUPS}
    return [dict(row) for row in connection.execute(text(query), named).mappings()]
