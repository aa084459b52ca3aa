"""Rows as Confluent-framed Avro of one schema: one row at a time, or columns of many rows at once.

The column encoder takes a few array operations per field. All rows get the same width: each field has as many bytes as
its longest value, and a mask keeps those that a row's value takes. The kept bytes, in order, are the records::

    header     transaction_id        store_id   ...
    00 ID      ac 02 .. .. .. ..     08 .. ..         kept: 00 ID ac 02 08 ...
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt

from retail_stream.avro.decode import frame
from retail_stream.avro.schema import AvroSchema, plain_schema, scalar
from retail_stream.errors import RetailStreamError
from services.generator.records import Column, Flags

Bytes = npt.NDArray[np.uint8]


class RowEncoder:
    """Encodes rows of one record schema, one at a time."""

    def __init__(self, schema: AvroSchema, schema_id: int) -> None:
        """``schema``: as parsed JSON; ``schema_id``: its id in the registry."""
        self._schema = fastavro.parse_schema(plain_schema(schema))
        self._head = frame(schema_id, b"")

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        """The value of one row."""
        out = io.BytesIO()
        out.write(self._head)
        fastavro.schemaless_writer(out, self._schema, row)
        return out.getvalue()


class ColumnEncoder:
    """Encodes columns of one record schema whose fields are int, long, double and string, nullable or not."""

    def __init__(self, schema: AvroSchema, schema_id: int, vocabularies: Mapping[str, Sequence[str]]) -> None:
        """``vocabularies``: string field → its possible values.

        Raises:
            RetailStreamError: a field has another type.
        """
        self._head = np.frombuffer(frame(schema_id, b""), np.uint8)
        self._fields: list[tuple[str, str, bytes]] = []
        for f in plain_schema(schema)["fields"]:
            scalar_type = scalar(f["type"])
            if scalar_type not in ("int", "long", "double", "string"):
                raise RetailStreamError(f"The generator cannot write field {f['name']} of type {f['type']}.")
            # The zigzag number of the union's branch that is not null.
            branch = bytes([2 * (1 - f["type"].index("null"))]) if isinstance(f["type"], list) else b""
            self._fields.append((f["name"], scalar_type, branch))
        self._words = {name: _vocabulary(words) for name, words in vocabularies.items()}

    def __call__(self, columns: Mapping[str, Column], size: int) -> list[bytes]:
        """One value per row. ``columns``: field → its values, for every field of the schema; none is null."""
        parts: list[Bytes] = [np.broadcast_to(self._head, (size, len(self._head)))]
        kept: list[Flags] = [np.broadcast_to(True, parts[0].shape)]

        def add(octets: Bytes, sizes: Column | None = None) -> None:
            width = octets.shape[1]
            parts.append(octets)
            kept.append(
                np.broadcast_to(True, octets.shape) if sizes is None else np.arange(width) < sizes[:, np.newaxis]
            )

        for name, scalar_type, branch in self._fields:
            column = columns[name]
            if branch:
                add(np.broadcast_to(np.frombuffer(branch, np.uint8), (size, 1)))
            if scalar_type == "double":
                add(np.ascontiguousarray(column, "<f8").view(np.uint8).reshape(size, 8))
            elif scalar_type == "string":
                words, lengths = self._words[name]
                add(words[column], lengths[column])
            else:
                add(*_varints(column))
        mask = np.concatenate(kept, axis=1)
        joined = np.concatenate(parts, axis=1)[mask].tobytes()
        ends = np.cumsum(mask.sum(axis=1)).tolist()
        return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if size else []


def _varints(column: Column) -> tuple[Bytes, Column]:
    """Zigzag varints of int64: (rows × the bytes of the longest, how many bytes each row takes)."""
    values = column.astype(np.int64)
    left = ((values << 1) ^ (values >> 63)).view(np.uint64)
    octets: list[Bytes] = []
    sizes = np.ones(len(values), np.int64)
    while True:
        more = left >= 0x80
        octets.append(((left & np.uint64(0x7F)) | (more.astype(np.uint64) << np.uint64(7))).astype(np.uint8))
        if not more.any():
            return np.stack(octets, axis=1), sizes
        sizes += more
        left >>= np.uint64(7)


def _vocabulary(words: Sequence[str]) -> tuple[Bytes, Column]:
    """Each word as an Avro string: (words × the bytes of the longest, how many bytes each word takes)."""
    encoded = [word.encode() for word in words]
    if any(len(e) > 63 for e in encoded):
        raise RetailStreamError("A word of a vocabulary has more than 63 bytes, so its length needs more than one.")
    written = [bytes([2 * len(e)]) + e for e in encoded]
    lengths = np.array([len(w) for w in written], np.int64)
    padded = b"".join(w.ljust(int(lengths.max()), b"\0") for w in written)
    return np.frombuffer(padded, np.uint8).reshape(len(words), -1), lengths
