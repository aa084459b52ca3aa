"""What windows can be grouped by: the tables and views of windows that this user may read, as the catalogue has them.

`pipeline.aggregations` says the same of the entries of `schemas/windows.toml`, but not to a role that can only read.
Sessions are left out: each has a length of its own, so no two are bars of one chart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from services.aggregator.declared import COUNTS, MEASURES

#: All measures; groups are ranked by the first that an entry has.
_RANKED = (
    "gross_sales", "net_sales", "transactions", "units_sold", "units_returned", "returns_amount", "discounts", "taxes",
)  # fmt: skip
_OF_A_WINDOW = ("window_size", "window_start", "window_end", "revision", "state", "updated_at")
_NAME = re.compile(r"sales_by_(?:([a-z0-9_]+)_)?window")
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
# A view is made of a table of windows, which has an index by size and start.
_MADE = text("""
    SELECT c.relname, coalesce(base.relname, c.relname), jsonb_object_agg(a.attname, a.atttypid::regtype)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL (
        SELECT t.relname FROM pg_rewrite r
        JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
                        AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class t ON t.oid = d.refobjid AND t.relkind = 'r' AND t.relname LIKE 'sales\\_by\\_%window'
        WHERE r.ev_class = c.oid AND c.relkind = 'v' LIMIT 1
    ) base ON true
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE 'sales\\_by\\_%window'
      AND c.relkind IN ('r', 'v') AND has_table_privilege(c.oid, 'SELECT')
      AND coalesce(obj_description(c.oid, 'pg_class'), '') NOT LIKE '%in each session%'
    GROUP BY c.relname, base.relname
    ORDER BY array_position(ARRAY['sales_by_window', 'sales_by_category_window'], c.relname::text), c.relname
""")
# One step into the index for each size.
_SIZES = """
    WITH RECURSIVE sizes AS (
        SELECT min(window_size) AS size FROM {base}
        UNION ALL
        SELECT (SELECT min(window_size) FROM {base} WHERE window_size > size) FROM sizes WHERE size IS NOT NULL
    )
    SELECT extract(epoch FROM size)::bigint FROM sizes WHERE size IS NOT NULL
"""


@dataclass(frozen=True)
class Grouping:
    """One way to group sales.

    ``relation``: the table or view; ``base``: the table that a view sums, else the same. ``group``: the name of a
    group, in SQL.
    """

    name: str
    relation: str
    base: str
    group: str
    measures: tuple[str, ...]

    def sizes(self, connection: Connection, usual: str) -> list[str]:
        """The sizes that it has, as SALES_WINDOWS writes them (``usual``) where they are of those."""
        written = {seconds_of(size.partition("/")[0]): size for size in usual.split(",") if size}
        found = connection.execute(text(_SIZES.format(base=self.base))).scalars()
        return [written.get(seconds) or _in_words(seconds) for seconds in found]

    @property
    def sums(self) -> str:
        """Its measures as sums, in SQL."""
        return ", ".join(f"sum({m})::{'bigint' if m in COUNTS else 'float8'} AS {m}" for m in self.measures)


def groupings(connection: Connection) -> list[Grouping]:
    """What was made: by store, by category, then the others by name."""
    made = (_of(*row) for row in connection.execute(_MADE))
    return [grouping for grouping in made if grouping is not None]


def seconds_of(size: str) -> int:
    """A size as SALES_WINDOWS writes it, without its slide, in seconds."""
    return int(size[:-1]) * _UNITS[size[-1]]


def _in_words(seconds: int) -> str:
    unit = next(u for u, n in _UNITS.items() if seconds % n == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _of(relation: str, base: str, columns: Mapping[str, str]) -> Grouping | None:
    """None unless the relation has a window, one key and a measure."""
    name = _NAME.fullmatch(relation)
    keys = [c for c in columns if c not in _OF_A_WINDOW and c not in MEASURES]
    measures = tuple(m for m in _RANKED if m in columns)
    if name is None or "window_size" not in columns or len(keys) != 1 or not measures:
        return None
    called, key = name[1] or "store", f'"{keys[0]}"'
    group = f"left({key}, 100)" if columns[keys[0]] == "text" else f"'{called} ' || {key}"
    return Grouping(called, relation, base, group, measures)
