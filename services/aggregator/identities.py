"""Held identities in Postgres, a row of `sale_identities` for each chunk; duplicates.py holds the rules."""

from dataclasses import replace

import polars as pl
from sqlalchemy import Connection, text

from retail_stream.errors import Fenced
from services.aggregator import duplicates
from services.aggregator.duplicates import Chunk, Held
from services.aggregator.warehouse import instant, micros


def held(connection: Connection, partition: int) -> Held:
    """The chunks of a partition, for a claim: all ranges, and the rows of the newest ones only."""
    rows = connection.execute(
        text(
            "SELECT id, number, low, high, expires FROM sale_identities "
            "WHERE partition = :partition ORDER BY expires, id"
        ),
        {"partition": partition},
    )
    found = tuple(Chunk(None, n, low, high, micros(at) or 0, stored) for stored, n, low, high, at in rows)
    return duplicates.with_rows(found, _rows(connection, duplicates.newest(found)))


def gather(connection: Connection, held: Held, sales: pl.DataFrame) -> Held:
    """The same chunks with those in memory that a batch of ``sales`` of the partition needs.

    Raises:
        Fenced: another owner has replaced one of them.
    """
    needed = duplicates.needed(held, sales["transaction_id"])
    rows = _rows(connection, needed)
    if len(rows) < len(needed):
        raise Fenced("Another owner of the partition has replaced identities of sales.")
    return duplicates.with_rows(held, rows)


def save(connection: Connection, partition: int, before: Held, after: Held) -> Held:
    """Store the chunks that are not stored yet and delete those that are no longer held.

    Returns the chunks of ``after`` as a worker keeps them in memory.
    """
    kept = {c.stored for c in after}
    if gone := [c.stored for c in before if c.stored not in kept]:
        connection.execute(text("DELETE FROM sale_identities WHERE id = ANY(:gone)"), {"gone": gone})
    return duplicates.newest_in_memory(
        tuple(c if c.stored is not None else replace(c, stored=_insert(connection, partition, c)) for c in after)
    )


def _insert(connection: Connection, partition: int, chunk: Chunk) -> int:
    assert chunk.rows is not None
    row = {
        "partition": partition,
        "expires": instant(chunk.expires),
        "number": chunk.size,
        "low": chunk.low,
        "high": chunk.high,
        "identities": duplicates.as_bytes(chunk.rows),
    }
    columns, values = ", ".join(row), ", ".join(f":{c}" for c in row)
    insert = text(f"INSERT INTO sale_identities ({columns}) VALUES ({values}) RETURNING id")
    return int(connection.execute(insert, row).scalar_one())


def _rows(connection: Connection, stored: list[int]) -> dict[int, pl.DataFrame]:
    if not stored:
        return {}
    rows = connection.execute(
        text("SELECT id, identities FROM sale_identities WHERE id = ANY(:stored)"), {"stored": stored}
    )
    return {number: duplicates.from_bytes(payload) for number, payload in rows}
