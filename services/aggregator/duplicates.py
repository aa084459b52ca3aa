"""Sales that their source published again: an identity counts once for as long as one of its windows is held.

An identity is (transaction_id, event_time, store_id). It is held until the watermark of its own partition reaches its
expiry: the end of its last window + the allowed lateness. That is judged by the watermark before each record, so a
second reading decides the same. A sale that comes after its expiry is too late for every window, and the key of
`fact_sales` refuses a second one.

Identities are held in chunks, which are rows of `sale_identities`. New chunks are small; neighbours are merged, so a
partition has few of them, whatever the windows' length. Only the newest stay in memory. Of an older chunk a worker
knows the range of its transaction ids, and reads it when a batch has an id in that range::

    a day of windows    [ 65,000 ][ 71,000 ] … [ 66,000 ][ 40,000 ][ 900 ][ 20 ]
                          in Postgres only                 in memory      ◀ a batch
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from services.aggregator.watermark import BEFORE, Watermark, at_or_past

IDENTITY: Final = ("transaction_id", "event_time", "store_id")
EXPIRES: Final = "expires"
#: Small neighbours are merged up to this many identities: 1.3 MB.
LARGE = 65_536
#: The most chunks of a partition; beyond, the two smallest neighbours become one with every batch.
MOST_CHUNKS = 256
#: So many of a partition's newest identities stay in memory: 20 MB.
IN_MEMORY = 2**20
_DTYPES: Final[tuple[np.dtype, ...]] = (np.dtype("<i8"), np.dtype("<i8"), np.dtype("<i4"))
BYTES: Final = sum(dtype.itemsize for dtype in _DTYPES)


@dataclass(frozen=True)
class Chunk:
    """Identities of one or more batches.

    ``rows``: None while only Postgres has them; ``size``: their number. ``low``, ``high``: the smallest and largest
    transaction_id, both inclusive. ``expires``: when the last identity does, in microseconds. To hold one longer
    changes nothing: each sale is judged by its own expiry. ``stored``: the id in `sale_identities`; None: not there.
    """

    rows: pl.DataFrame | None
    size: int
    low: int
    high: int
    expires: int
    stored: int | None = None


#: The chunks of a partition, oldest first.
Held = tuple[Chunk, ...]


def chunk(rows: pl.DataFrame) -> Chunk | None:
    """The identities of judged sales (columns IDENTITY, EXPIRES); None for no sales."""
    if rows.is_empty():
        return None
    low, high, expires = rows.select(
        pl.col("transaction_id").min().alias("low"), pl.col("transaction_id").max().alias("high"), pl.col(EXPIRES).max()
    ).row(0)
    return Chunk(rows.select(IDENTITY), rows.height, low, high, expires)


@dataclass(frozen=True)
class Deduplicated:
    """Sales without duplicates, in order.

    ``new``: the identities to hold from now on. ``duplicates``: how many sales were dropped. ``conflicts``: how many
    sales have a transaction_id that is held with another time or store; they are sales of their own.
    """

    sales: pl.DataFrame
    new: Chunk | None
    duplicates: int
    conflicts: int


def deduplicate(rows: pl.DataFrame, held: Held) -> Deduplicated:
    """Drop every sale whose identity came before it in the partition and is still held when it comes.

    ``rows``: sales of one partition in order, with BEFORE and EXPIRES. ``held``: with the chunks of :func:`needed` in
    memory.
    """
    live = pl.col(BEFORE).is_null() | (pl.col(EXPIRES) > pl.col(BEFORE))
    ids = rows["transaction_id"]
    near = [_in_memory(c) for c in _near(held, ids)]
    known = pl.concat(near).join(rows.select("transaction_id"), on="transaction_id", how="semi") if near else None
    repeated = ids.n_unique() < rows.height
    if not repeated and (known is None or known.is_empty()):
        return Deduplicated(rows, chunk(rows.filter(live)), 0, 0)
    seen = rows.with_row_index("row").select("row", live.alias("live"), *IDENTITY)
    first = pl.col("row") == pl.col("row").min().over(IDENTITY)
    if known is not None:
        seen = seen.join(known.with_columns(known=True), on=IDENTITY, how="left", maintain_order="left")
        first &= pl.col("known").is_null()
    flags = seen.select((first | ~pl.col("live")).alias("kept"), (first & pl.col("live")).alias("new"))
    sales = rows.filter(flags["kept"])
    new = rows.filter(flags["new"])
    conflicts = new.height - new["transaction_id"].n_unique()
    if known is not None:
        conflicts += new.join(known, on="transaction_id", how="semi").height
    return Deduplicated(sales, chunk(new), rows.height - sales.height, conflicts)


def needed(held: Held, ids: pl.Series) -> list[int]:
    """The chunks, by their ids in `sale_identities`, that are not in memory and that a batch needs.

    ``ids``: the transaction ids of the batch. Of too many chunks, the two that are to be merged are needed as well.
    """
    wanted = _near(held, ids)
    if len(held) > MOST_CHUNKS:
        smallest = min(range(1, len(held)), key=lambda i: held[i - 1].size + held[i].size)
        wanted += held[smallest - 1 : smallest + 1]
    return sorted({c.stored for c in wanted if c.rows is None and c.stored is not None})


def with_rows(held: Held, rows: Mapping[int, pl.DataFrame]) -> Held:
    """The same chunks with ``rows`` in memory, by their ids in `sale_identities`."""
    return tuple(
        replace(c, rows=rows[c.stored]) if c.rows is None and c.stored is not None and c.stored in rows else c
        for c in held
    )


def hold(held: Held, new: Chunk | None, watermark: Watermark) -> Held:
    """Add a chunk, drop the chunks that the partition's watermark has passed, and merge small neighbours."""
    kept = [c for c in held if not at_or_past(watermark, c.expires)]
    if new is not None and not at_or_past(watermark, new.expires):
        kept.append(new)
    while len(kept) > 1 and kept[-2].size <= 2 * kept[-1].size <= LARGE and _are_in_memory(kept, len(kept) - 1):
        _merge(kept, len(kept) - 1)
    if len(kept) > MOST_CHUNKS and (pairs := [i for i in range(1, len(kept)) if _are_in_memory(kept, i)]):
        _merge(kept, min(pairs, key=lambda i: kept[i - 1].size + kept[i].size))
    return tuple(kept)


def newest_in_memory(held: Held) -> Held:
    """The same chunks, all stored; of older ones the rows are left to Postgres."""
    left, kept = IN_MEMORY, list(held)
    for i in reversed(range(len(kept))):
        left -= kept[i].size
        if left < 0 and kept[i].rows is not None:
            kept[i] = replace(kept[i], rows=None)
    return tuple(kept)


def newest(held: Held) -> list[int]:
    """The chunks, by their ids in `sale_identities`, that the next batches are merged with."""
    found, left = [], LARGE
    for c in reversed(held):
        left -= c.size
        if left < 0:
            break
        found += [] if c.stored is None else [c.stored]
    return found


def _near(held: Held, ids: pl.Series) -> list[Chunk]:
    """The chunks in whose range of transaction ids one of ``ids`` is."""
    if not held or ids.is_empty():
        return []
    ordered = ids.sort().to_numpy()
    first = np.searchsorted(ordered, [c.low for c in held], side="left")
    after = np.searchsorted(ordered, [c.high for c in held], side="right")
    return [held[i] for i in np.flatnonzero(after > first).tolist()]


def _are_in_memory(kept: list[Chunk], i: int) -> bool:
    return kept[i - 1].rows is not None and kept[i].rows is not None


def _merge(kept: list[Chunk], i: int) -> None:
    """Replace a chunk and the one before it by one that is not stored yet."""
    a, b = kept[i - 1], kept[i]
    rows = pl.concat([_in_memory(a), _in_memory(b)], rechunk=True)
    kept[i - 1 : i + 1] = [Chunk(rows, rows.height, min(a.low, b.low), max(a.high, b.high), max(a.expires, b.expires))]


def _in_memory(chunk: Chunk) -> pl.DataFrame:
    assert chunk.rows is not None, "identities were not read"
    return chunk.rows


def as_bytes(identities: pl.DataFrame) -> bytes:
    """Identities as three little-endian columns, one after the other: ids and times of 8 bytes, stores of 4."""
    return b"".join(
        identities[c].to_numpy().astype(d, copy=False).tobytes() for c, d in zip(IDENTITY, _DTYPES, strict=True)
    )


def from_bytes(payload: bytes) -> pl.DataFrame:
    """The inverse of :func:`as_bytes`."""
    n, start, columns = len(payload) // BYTES, 0, {}
    for name, dtype in zip(IDENTITY, _DTYPES, strict=True):
        columns[name] = np.frombuffer(payload, dtype, n, start)
        start += n * dtype.itemsize
    return pl.DataFrame(columns)
