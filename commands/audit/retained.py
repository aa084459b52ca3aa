"""What the warehouse no longer has, because it was deleted by age or on request: queries of one snapshot.

``archived``: months of facts that are detached, in microseconds since 1970-01-01 UTC, ``after_us`` exclusive.
``kept_since``: before it, windows may be gone. ``forgotten``: ids whose changes from before a time are gone.
"""

import polars as pl

from commands.audit.snapshot import micros

#: Table of the engine → the query in Postgres.
QUERIES = {
    "archived": """
        SELECT (first_day - date '1970-01-01') * 86400000000 AS first_us,
               (after_day - date '1970-01-01') * 86400000000 AS after_us
        FROM fact_partitions WHERE NOT EXISTS (
            SELECT FROM pg_inherits
            WHERE inhrelid = partition AND inhparent = 'fact_sales'::regclass AND NOT inhdetachpending)
    """,
    # One in the future excuses nothing.
    "kept_since": f"SELECT {micros('since')} FROM kept_since WHERE what = 'windows' AND since <= now()",
    "forgotten": f"SELECT entity, id::bigint AS id, {micros('before')} FROM forgotten",
}
#: Table of the engine → the table of the warehouse that its query needs, and its columns.
NEEDS: dict[str, tuple[str, dict[str, pl.DataType]]] = {
    "archived": ("fact_partitions", {"first_us": pl.Int64(), "after_us": pl.Int64()}),
    "kept_since": ("kept_since", {"since": pl.Int64()}),
    "forgotten": ("forgotten", {"entity": pl.String(), "id": pl.Int64(), "before": pl.Int64()}),
}
