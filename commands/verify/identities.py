"""Checks the identities of sales that the aggregator holds, by which it drops a sale that is published again."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from commands.audit.engine import Engine, count, create, insert
from commands.audit.windows import Size
from commands.verify.compare import listed
from commands.verify.report import Check
from commands.verify.watermarks import IDENTITY
from commands.verify.windows import expiry

TABLE = "sale_identities"
_COLUMNS = (("transaction_id", "<i8"), ("event_time", "<i8"), ("store_id", "<i4"))
_BYTES = sum(np.dtype(kind).itemsize for _, kind in _COLUMNS)
_HELD: dict[str, pl.DataType] = dict.fromkeys(("chunk", "partition", *(n for n, _ in _COLUMNS)), pl.Int64())


def make_held(engine: Engine) -> None:
    """Make ``held``: a row for each identity of the loaded ``sale_identities``; ``chunk``: the row that it is in."""
    create(engine, "held", _HELD)
    for chunk, partition, payload in engine.execute(f"SELECT id, partition, identities FROM {TABLE}").fetchall():
        number, start, columns = len(payload) // _BYTES, 0, {}
        for name, kind in _COLUMNS:
            columns[name] = np.frombuffer(payload, kind, number, start).astype(np.int64)
            start += number * np.dtype(kind).itemsize
        frame = pl.DataFrame({"chunk": [chunk] * number, "partition": [partition] * number, **columns}, schema=_HELD)
        insert(engine, "held", frame)


def identity_check(engine: Engine, windows: Sequence[Size], lateness: int) -> Check:
    """The line of ``sale_identities``, after ``judge``: each identity whose windows are held, in a row that says so.

    A row may hold some longer, as one that was merged with a later one does.
    """
    make_held(engine)
    until = expiry(windows, lateness)
    engine.execute(f"""
        CREATE OR REPLACE TABLE to_be_held AS
        SELECT s.partition, {IDENTITY}
        FROM sales s LEFT JOIN partition_watermarks w USING (partition)
        WHERE nth = 1 AND coalesce({until} > before, true) AND coalesce({until} > w.watermark, true)
    """)
    key = f"partition, {IDENTITY}"
    named = "'partition ' || partition || ' transaction_id ' || transaction_id || ' store_id ' || store_id"
    chunks = "(SELECT chunk, count(*) AS number, min(transaction_id) AS low, max(transaction_id) AS high, "
    chunks += f"max({until}) AS expires FROM held GROUP BY chunk)"
    differ = " || ".join(
        f"CASE WHEN t.{n} IS DISTINCT FROM h.{n} THEN ' {n} expected ' || coalesce(h.{n}::VARCHAR, 'nothing')"
        f" || ', found ' || t.{n} ELSE '' END"
        for n in ("number", "low", "high", "expires")
    )
    wrong = listed(
        engine,
        f"""
        SELECT {named} || ': its windows are held, and its identity is not'
        FROM to_be_held ANTI JOIN held USING ({key})
        UNION ALL
        SELECT {named} || ': its identity is held, and no such sale was counted'
        FROM held ANTI JOIN sales USING ({key})
        UNION ALL
        SELECT {named} || ': its identity is held ' || count(*) || ' times'
        FROM held GROUP BY {key} HAVING count(*) > 1
        UNION ALL
        SELECT 'id ' || t.id || ':' || {differ} FROM {TABLE} t LEFT JOIN {chunks} h ON h.chunk = t.id
        WHERE (t.number, t.low, t.high, t.expires) IS DISTINCT FROM (h.number, h.low, h.high, h.expires)
        UNION ALL
        SELECT 'id ' || id || ': has ' || octet_length(identities) || ' bytes, which are not whole identities'
        FROM {TABLE} WHERE octet_length(identities) % {_BYTES} <> 0
        """,
    )
    there = count(engine, f"(FROM to_be_held SEMI JOIN held USING ({key}))")
    return Check(TABLE, count(engine, "to_be_held"), there, wrong.count, wrong.examples)
