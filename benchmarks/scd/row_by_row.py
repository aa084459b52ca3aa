"""SCD type 2 as tutorials have it: look up the current row of each change, close it, insert the next.

One commit per 500 changes. A late change is taken like any other, so it closes the version that is open at its own,
earlier time.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, MetaData, Table, insert, select, text, update

from benchmarks.scd.stream import COLUMNS, Change

TABLE = "row_by_row"
_COMMIT_EVERY = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run(engine: Engine, changes: Sequence[Change]) -> float:
    """Take the changes one by one; returns the seconds that took."""
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
        # Without the constraints of dim_products: the first late change would break them, and stop it.
        connection.execute(text(f"CREATE TABLE {TABLE} (LIKE dim_products INCLUDING GENERATED INCLUDING IDENTITY)"))
        connection.execute(text(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (product_sk)"))
        connection.execute(text(f"CREATE INDEX ON {TABLE} (product_id) WHERE valid_to IS NULL"))
    table = Table(TABLE, MetaData(), autoload_with=engine)
    began = time.perf_counter()
    for first in range(0, len(changes), _COMMIT_EVERY):
        with engine.begin() as connection:
            for change in changes[first : first + _COMMIT_EVERY]:
                _take(connection, table, change)
    return time.perf_counter() - began


def _take(connection: Connection, table: Table, change: Change) -> None:
    row = dict(zip(COLUMNS, change, strict=True))
    at = _EPOCH + timedelta(microseconds=change[1])
    del row["last_update_time"], row["deleted"]
    current = select(table).where(table.c.product_id == row["product_id"], table.c.valid_to.is_(None))
    found = connection.execute(current).mappings().first()
    if found is not None:
        if all(found[name] == value for name, value in row.items()):
            return
        connection.execute(update(table).where(table.c.product_sk == found["product_sk"]).values(valid_to=at))
    connection.execute(insert(table).values(**row, valid_from=at))
