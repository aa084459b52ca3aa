"""Changes of ids that `retail-stream forget` has deleted, and that the topics still hold."""

import polars as pl
from sqlalchemy import Connection, text

from services.scd_merger.dimensions import Dimension

_BEFORE = "_before"
_FORGOTTEN = text("SELECT id, (extract(epoch FROM before) * 1000000)::bigint FROM forgotten WHERE entity = :entity")


def without(connection: Connection, dimension: Dimension, changes: pl.DataFrame) -> pl.DataFrame:
    """Drop the changes of each forgotten id that are older than its forgetting.

    ``forget`` locks the table alone, so no transaction that has looked here writes such a change after it.
    """
    rows = connection.execute(_FORGOTTEN, {"entity": dimension.entity}).all()
    if not rows:
        return changes
    forgotten = pl.DataFrame(
        [tuple(row) for row in rows],
        schema={dimension.key: changes.schema[dimension.key], _BEFORE: changes.schema[dimension.sequence]},
        orient="row",
    )
    older = pl.col(dimension.sequence) < pl.col(_BEFORE)
    joined = changes.join(forgotten, on=dimension.key, how="left", maintain_order="left")
    return joined.filter(~older.fill_null(value=False)).drop(_BEFORE)
