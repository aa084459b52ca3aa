"""Numbers of rows: counted in small tables, estimated in large ones, whose counting would take minutes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

#: A table up to this size is counted: some 250,000 rows.
SMALL_BYTES = 2**25
#: Bytes of a row in a table that was never analysed.
_ROW_BYTES = 100

# As Postgres' planner does: the rows per page of the last VACUUM or ANALYZE, by the pages of today. A partitioned table
# has no pages itself.
_SIZES = text("""
    SELECT name, sum(bytes)::bigint AS bytes,
           sum(CASE WHEN relpages > 0 AND reltuples >= 0 THEN reltuples / relpages * (bytes / 8192.0)
                    ELSE bytes::float / :row_bytes END)::bigint AS estimate
    FROM unnest(CAST(:tables AS text[])) AS t (name)
    CROSS JOIN LATERAL (
        SELECT c.reltuples, c.relpages, pg_relation_size(c.oid) AS bytes
        FROM pg_class c
        WHERE c.oid = name::regclass
           OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = name::regclass)
    ) parts
    GROUP BY name
""")


@dataclass(frozen=True)
class Rows:
    """How many rows a table has."""

    number: int
    is_estimate: bool


def count(connection: Connection, tables: Iterable[str]) -> Mapping[str, Rows]:
    """The rows of each of our tables, by its name."""
    sizes = connection.execute(_SIZES, {"tables": list(tables), "row_bytes": _ROW_BYTES}).all()
    return {
        name: Rows(estimate, True)
        if size > SMALL_BYTES
        else Rows(int(connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()), False)
        for name, size, estimate in sizes
    }
