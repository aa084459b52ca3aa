"""Identities of sales in few rows, each with the range of its transaction ids."""

from collections.abc import Iterator

import numpy as np
from alembic import op
from sqlalchemy import Connection, text

revision = "0008"
down_revision = "0007"

_LARGE = 65_536
_TYPES = ("<i8", "<i8", "<i4")
_BYTES = 20
_BATCH = 1_000


def upgrade() -> None:
    """Merge the rows of each partition, which were one for each batch, and store size and range of each."""
    op.execute("""
        ALTER TABLE sale_identities ADD COLUMN number integer, ADD COLUMN low bigint, ADD COLUMN high bigint;
        COMMENT ON TABLE sale_identities IS
            'sales whose windows are held, in chunks: transaction ids, event times, stores (duplicates.py)';
        COMMENT ON COLUMN sale_identities.number IS 'how many identities the row holds';
        COMMENT ON COLUMN sale_identities.low IS 'the smallest transaction_id in the row';
        COMMENT ON COLUMN sale_identities.high IS 'the largest transaction_id in the row';
    """)
    connection = op.get_bind()
    last = connection.execute(text("SELECT max(id) FROM sale_identities")).scalar_one()
    insert = text("""
        INSERT INTO sale_identities (partition, expires, identities, number, low, high)
        VALUES (:partition, :expires, :identities, :number, :low, :high)
    """)
    for partition, expires, columns in _merged(connection):
        ids = columns[0]
        row = {"partition": partition, "expires": expires, "number": len(ids)}
        ends = {"low": int(ids.min()), "high": int(ids.max())}
        connection.execute(insert, {**row, **ends, "identities": b"".join(c.tobytes() for c in columns)})
    connection.execute(text("DELETE FROM sale_identities WHERE id <= :last"), {"last": last})
    op.execute("""
        ALTER TABLE sale_identities
            ALTER COLUMN number SET NOT NULL, ALTER COLUMN low SET NOT NULL, ALTER COLUMN high SET NOT NULL;
    """)


def _merged(connection: Connection) -> Iterator[tuple[int, object, list[np.ndarray]]]:
    """The stored identities of each partition in the order of their rows, up to _LARGE in one, with the last expiry."""
    query = text("SELECT partition, expires, identities FROM sale_identities ORDER BY partition, id")
    rows = connection.execute(query, execution_options={"yield_per": _BATCH})
    partition, expires, parts, size = None, None, [], 0
    for row in rows:
        number = len(row.identities) // _BYTES
        if parts and (row.partition != partition or size + number > _LARGE):
            yield partition, expires, [np.concatenate(column) for column in zip(*parts, strict=True)]
            expires, parts, size = None, [], 0
        partition, size = row.partition, size + number
        expires = row.expires if expires is None else max(expires, row.expires)
        parts.append(_columns(row.identities, number))
    if parts:
        yield partition, expires, [np.concatenate(column) for column in zip(*parts, strict=True)]


def _columns(payload: bytes, number: int) -> list[np.ndarray]:
    columns, start = [], 0
    for dtype in map(np.dtype, _TYPES):
        columns.append(np.frombuffer(payload, dtype, number, start))
        start += number * dtype.itemsize
    return columns
