"""Checks the views by an attribute of a dimension against the loaded windows by its key and its versions."""

from commands.audit.engine import Engine
from commands.audit.windows import View
from commands.verify.compare import Column, Format, check
from commands.verify.report import Check
from commands.verify.windows import MEASURES
from retail_stream.entities import FIELDS

#: The attribute of an id that has no version.
UNKNOWN = "Unknown"


def view_check(engine: Engine, view: View) -> Check:
    """The line of a view such as ``sales_by_category_window``: sums by the attribute of the ids at ``window_start``.

    Before its first version, and in a gap after a delete, an id has the attribute of its first version. Reads the
    dimension and the windows as loaded, so that a wrong row is not reported twice.
    """
    dimension, key, attribute = f"dim_{view.entity}", FIELDS[view.entity].key, f'"{view.attribute}"'
    measures = [m for m in MEASURES if m.name in view.base.measures]
    sums = ", ".join(f"sum({m.name})::BIGINT AS {m.name}" for m in measures)
    wanted = f"""
        SELECT window_size, window_start, {attribute}, min(window_end) AS window_end, {sums}
        FROM (
            SELECT w.*, CASE WHEN d.{key} IS NOT NULL AND (d.valid_to IS NULL OR d.valid_to > w.window_start)
                             THEN d.{attribute} ELSE coalesce(oldest.{attribute}, '{UNKNOWN}') END AS {attribute}
            FROM {view.base.table} w
            ASOF LEFT JOIN {dimension} d ON d.{key} = w.{key} AND d.valid_from <= w.window_start
            LEFT JOIN (
                SELECT {key}, arg_min({attribute}, valid_from) AS {attribute} FROM {dimension} GROUP BY {key}
            ) oldest ON oldest.{key} = w.{key}
        )
        GROUP BY window_size, window_start, {attribute}
    """
    keys = [Column("window_size", Format.DURATION), Column("window_start", Format.TIME), Column(view.attribute)]
    return check(engine, view.name, wanted, view.name, keys, [Column("window_end", Format.TIME), *measures])
