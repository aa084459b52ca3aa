"""Sales that their source published again: an identity counts once for as long as one of its windows is held.

An identity is (transaction_id, event_time, store_id). It is held until the watermark of its own partition reaches its
expiry: the end of its last window + the allowed lateness. That is judged by the watermark before each record, so a
second reading decides the same. A sale that comes after its expiry is too late for every window, and the key of
`fact_sales` refuses a second one.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from services.aggregator.watermark import BEFORE, Watermark, at_or_past

IDENTITY: Final = ("transaction_id", "event_time", "store_id")
EXPIRES: Final = "expires"
# Small chunks are merged up to this many identities, so that a batch meets few of them.
_LARGE: Final = 65_536
_HOUR: Final = 3_600_000_000
_DTYPES: Final[tuple[np.dtype, ...]] = (np.dtype("<i8"), np.dtype("<i8"), np.dtype("<i4"))


@dataclass(frozen=True)
class Chunk:
    """Identities of one or more batches.

    ``low``, ``high``: the smallest and largest transaction_id, both inclusive. ``expires``: when the last identity
    does, in microseconds. To hold one longer changes nothing: each sale is judged by its own expiry.
    """

    rows: pl.DataFrame
    low: int
    high: int
    expires: int


Held = tuple[Chunk, ...]


def chunk(rows: pl.DataFrame) -> Chunk | None:
    """The identities of judged sales (columns IDENTITY, EXPIRES); None for no sales."""
    if rows.is_empty():
        return None
    low, high, expires = rows.select(
        pl.col("transaction_id").min().alias("low"), pl.col("transaction_id").max().alias("high"), pl.col(EXPIRES).max()
    ).row(0)
    return Chunk(rows.select(IDENTITY), low, high, expires)


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

    ``rows``: sales of one partition in order, with BEFORE and EXPIRES.
    """
    live = pl.col(BEFORE).is_null() | (pl.col(EXPIRES) > pl.col(BEFORE))
    ids = rows["transaction_id"]
    low, high = ids.min(), ids.max()
    near = [c.rows for c in held if c.low <= high and c.high >= low]  # type: ignore[operator]
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


def hold(held: Held, new: Chunk | None, watermark: Watermark) -> Held:
    """Add a chunk, drop the chunks that the partition's watermark has passed, and merge small neighbours."""
    kept = [c for c in held if not at_or_past(watermark, c.expires)]
    if new is not None and not at_or_past(watermark, new.expires):
        kept.append(new)
    while len(kept) > 1 and kept[-2].rows.height <= 2 * kept[-1].rows.height <= _LARGE:
        b, a = kept.pop(), kept.pop()
        rows = pl.concat([a.rows, b.rows], rechunk=True)
        kept.append(Chunk(rows, min(a.low, b.low), max(a.high, b.high), max(a.expires, b.expires)))
    return tuple(kept)


def load(stored: Iterable[tuple[int, bytes]]) -> Held:
    """Held identities from stored rows of (expires, :func:`as_bytes`), oldest first; one chunk for each hour."""
    by_hour: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for expires, payload in stored:
        by_hour[expires // _HOUR].append((expires, payload))
    chunks = []
    for rows in by_hour.values():
        identities = from_bytes(payload for _, payload in rows)
        ids = identities["transaction_id"]
        chunks.append(Chunk(identities, ids.min(), ids.max(), max(expires for expires, _ in rows)))  # type: ignore[arg-type]
    return tuple(chunks)


def as_bytes(identities: pl.DataFrame) -> bytes:
    """Identities as three little-endian columns, one after the other: ids and times of 8 bytes, stores of 4."""
    return b"".join(
        identities[c].to_numpy().astype(d, copy=False).tobytes() for c, d in zip(IDENTITY, _DTYPES, strict=True)
    )


def from_bytes(payloads: Iterable[bytes]) -> pl.DataFrame:
    """The identities of several :func:`as_bytes`, one after the other."""
    columns: list[list[np.ndarray]] = [[np.empty(0, d)] for d in _DTYPES]
    for payload in payloads:
        n, start = len(payload) // 20, 0
        for column, dtype in zip(columns, _DTYPES, strict=True):
            column.append(np.frombuffer(payload, dtype, n, start))
            start += n * dtype.itemsize
    return pl.DataFrame({name: np.concatenate(column) for name, column in zip(IDENTITY, columns, strict=True)})
