"""Checks the stored changes of every dimension, on which the next late change builds."""

from commands.audit.engine import Engine
from commands.audit.layouts import Holds, holds
from commands.audit.versions import attributes, largest
from commands.verify.compare import Column, Format, check, columns
from commands.verify.report import Check
from commands.verify.versions import changes
from retail_stream.entities import Entity

#: A value that its column cannot hold is kept in ``extra`` under this prefix.
_KEPT = '%"~kept:%'


def change_check(engine: Engine, entity: Entity) -> Check:
    """The line of ``<entity>_changes``: the change that won each moment of each id, all columns.

    Of changes that differ in ``extra`` only, any may have won. The merger moves a value that does not fit its column
    into ``extra``; of such a change the other columns are compared.
    """
    table, names = f"{entity}_changes", attributes(entity)
    wanted = f"""
        SELECT w.* EXCLUDE (extras),
               CASE WHEN s.extra LIKE '{_KEPT}' OR list_contains(w.extras, coalesce(s.extra, '')) THEN s.extra
                    ELSE nullif(w.extras[1], '') END AS extra
        FROM (
            SELECT id, moment, any_value(deleted) AS deleted, {", ".join(f"any_value({n}) AS {n}" for n in names)},
                   list(DISTINCT coalesce(extra, '')) AS extras
            FROM (
                SELECT *, rank() OVER (PARTITION BY id, moment ORDER BY {largest(entity)}) AS place
                FROM ({changes(entity)})
            ) WHERE place = 1 GROUP BY id, moment
        ) w LEFT JOIN {table} s USING (id, moment)
    """
    values = [Column(n, Format.TIME if holds(entity)[n] is Holds.TIME else Format.PLAIN) for n in names]
    keys = [Column("id"), Column("moment", Format.TIME)]
    return check(engine, table, wanted, table, keys, [*columns("deleted", "extra"), *values])
