"""The golden records under schemas/examples, ready for use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Headers, Record
from retail_stream.topics import SCHEMAS, raw
from tests.harness.record_batches import batch

RAW_ID, CLEAN_ID = 7, 8


@dataclass(frozen=True)
class Raw:
    """Raw records of one partition. ``timestamps``: milliseconds. ``headers``: by row, where there are some."""

    entity: Entity
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int]
    headers: Mapping[int, Headers] = field(default_factory=dict)

    @property
    def sequence_times(self) -> dict[int, int | None]:
        """The header ``sequence.time`` by row, where there is one; None if it is not a number."""
        return {
            row: big_endian(dict(headers)[SEQUENCE_TIME.encode()])
            for row, headers in self.headers.items()
            if SEQUENCE_TIME.encode() in dict(headers)
        }

    def columns(self) -> Columns:
        """The records as a fetch brings them, from offset 0 of partition 0 on."""
        rows = zip(self.timestamps, self.keys, self.values, strict=True)
        records = [Record(i, *row, self.headers.get(i, ())) for i, row in enumerate(rows)]
        (columns,) = pieces(record_set(raw(self.entity), 0, batch(records), 0))
        return columns


@dataclass(frozen=True)
class Example:
    """One golden record."""

    entity: Entity
    path: Path
    raw: Raw
    value: dict[str, Any] | None
    rules: list[str] = field(default_factory=list)
    defaults: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.entity}-{self.path.stem}"


def schema(entity: Entity, kind: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / kind / f"{entity}.avsc").read_text())


def micros(text: str | int) -> int:
    if isinstance(text, int):
        return text
    delta = datetime.fromisoformat(text).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def examples(kind: str) -> list[Example]:
    """``kind``: valid or invalid."""
    return [
        _load(entity, path)
        for entity in Entity
        for path in sorted((SCHEMAS / "examples" / entity / kind).glob("*.json"))
    ]


def _load(entity: Entity, path: Path) -> Example:
    data = json.loads(path.read_text())
    writer = RecordSchema(schema(entity, "raw"))
    value = data.get("value")
    if value is not None:
        value = {n: _plain(v, f["type"]) for (n, v), f in zip(value.items(), writer.schema["fields"], strict=True)}
        payload: bytes | None = frame(RAW_ID, encode(writer.plain, value))
    else:
        payload = bytes.fromhex(data["value_hex"]) if "value_hex" in data else None
    headers = tuple((n.encode(), bytes.fromhex(h)) for n, h in data.get("headers_hex", {}).items())
    key = None if data["key"] is None else data["key"].encode()
    record = Raw(entity, [payload], [key], [micros(data["timestamp"]) // 1000], {0: headers})
    return Example(entity, path, record, value, data.get("rules", []), data.get("defaults", {}))


def _plain(value: Any, avro_type: Any) -> Any:
    if isinstance(avro_type, dict):
        return micros(value)
    return float(value) if avro_type == "double" else value
