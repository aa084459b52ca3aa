"""Many records of one plain schema at once, field by field, by NumPy.

All records step through the fields together. A cursor stands in each one; a field moves it by the bytes that it takes
there::

    record 0   |0e|04|e8 07|...          cursors after two fields:   2 2
    record 1   |0c|d0 0f|02|...                                      3

A record is read when its cursor ends exactly where its bytes do. What is not read so, or holds what only the slow way
can judge, is left to :meth:`commands.audit.avro.Decoder.whole`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_KINDS = ("int", "long", "double", "string", "bytes")
#: A long has at most ten bytes; with nine, no bit is lost in 64.
_LONGEST = 9
_INT = 2**31


class PlainSchema:
    """The fields of a schema that are ints, longs, doubles, strings, bytes, or one of these or null."""

    def __init__(self, fields: Sequence[tuple[str, str, int | None]]) -> None:
        """``fields``: name, type, and where null stands in the union of both (None: it is not a union)."""
        self._fields = fields

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "PlainSchema | None":
        """Of the fields of an Avro record; None where one has another type."""
        found = []
        for field in fields:
            kind, null = field["type"], None
            if isinstance(kind, list) and len(kind) == 2 and "null" in kind:
                null = kind.index("null")
                kind = kind[1 - null]
            kind = kind["type"] if isinstance(kind, dict) else kind
            if not isinstance(kind, str) or kind not in _KINDS:
                return None
            found.append((field["name"], kind, null))
        return cls(found)

    def read(self, bodies: Sequence[bytes]) -> tuple[pl.DataFrame, Flags]:
        """The fields of each record, a row each, and which rows are right; the others hold anything."""
        reading = _Reading(bodies)
        columns = [reading.column(*field) for field in self._fields]
        return pl.DataFrame(columns), reading.right()


class _Reading:
    def __init__(self, bodies: Sequence[bytes]) -> None:
        sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
        self._bytes = b"".join(bodies)
        # A cursor that is past the end reads zeros.
        self._data = np.frombuffer(self._bytes + bytes(8), np.uint8)
        self._ends = np.cumsum(sizes)
        self._at = self._ends - sizes
        self._ok = np.ones(len(bodies), np.bool_)

    def right(self) -> Flags:
        """Cursors only go forward: one that stands at its end has read nothing of its neighbour."""
        right: Flags = self._ok & (self._at == self._ends)
        return right

    def column(self, name: str, kind: str, null: int | None) -> pl.Series:
        there = np.ones(len(self._at), np.bool_)
        if null is not None:
            branch = self._varint(there)
            self._ok &= (branch == 0) | (branch == 1)
            there = branch != null
        match kind:
            case "double":
                values = pl.Series(name, self._doubles(there))
            case "string" | "bytes":
                values = self._strings(name, there)
                values = values if kind == "bytes" else self._texts(values)
            case _:
                numbers = self._varint(there)
                if kind == "int":
                    self._ok &= (numbers >= -_INT) & (numbers < _INT)
                values = pl.Series(name, numbers)
        return values if null is None else values.set(pl.Series(~there), None)

    def _byte(self) -> npt.NDArray[np.uint8]:
        found: npt.NDArray[np.uint8] = self._data[np.minimum(self._at, len(self._bytes))]
        return found

    def _varint(self, there: Flags) -> Longs:
        """The next number of the records ``there``; 0 of the others."""
        raw = np.zeros(len(there), np.uint64)
        goes_on = there
        for i in range(_LONGEST):
            byte = np.where(goes_on, self._byte(), 0)
            raw |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * i)
            self._at = self._at + goes_on
            goes_on = byte >= 0x80
            if not goes_on.any():
                break
        self._ok &= ~goes_on
        return (raw >> np.uint64(1)).view(np.int64) ^ -(raw & np.uint64(1)).view(np.int64)

    def _doubles(self, there: Flags) -> npt.NDArray[np.float64]:
        places = np.minimum(self._at, len(self._bytes))[:, None] + np.arange(8)
        self._at = self._at + 8 * there
        return np.ascontiguousarray(self._data[places]).view("<f8")[:, 0]

    def _strings(self, name: str, there: Flags) -> pl.Series:
        sizes = self._varint(there)
        self._ok &= sizes >= 0
        sizes = np.clip(sizes, 0, len(self._bytes))
        begins, self._at = self._at, self._at + sizes
        spans = zip(begins.tolist(), self._at.tolist(), strict=True)
        return pl.Series(name, [self._bytes[a:b] for a, b in spans], dtype=pl.Binary())

    def _texts(self, values: pl.Series) -> pl.Series:
        try:
            return values.cast(pl.String())
        except pl.exceptions.ComputeError:
            texts = pl.Series(values.name, list(map(_text, values)), dtype=pl.String())
            self._ok &= texts.is_not_null().to_numpy()
            return texts


def _text(value: bytes) -> str | None:
    """The text of UTF-8 bytes; None for other bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
