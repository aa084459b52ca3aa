"""The golden records under schemas/examples, ready for use."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian
from retail_stream.topics import SCHEMAS
from services.cleaner.clean import Raw

RAW_ID, CLEAN_ID = 7, 8


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
    headers = {n: bytes.fromhex(h) for n, h in data.get("headers_hex", {}).items()}
    key = None if data["key"] is None else data["key"].encode()
    sequence = {0: big_endian(headers[SEQUENCE_TIME])} if SEQUENCE_TIME in headers else {}
    raw = Raw(entity, [payload], [key], [micros(data["timestamp"]) // 1000], sequence)
    return Example(entity, path, raw, value, data.get("rules", []), data.get("defaults", {}))


def _plain(value: Any, avro_type: Any) -> Any:
    if isinstance(avro_type, dict):
        return micros(value)
    return float(value) if avro_type == "double" else value
