"""One dead letter as text or JSON: the decoded record beside the reasons for its rejection."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from commands.dlq.letters import Letter
from retail_stream import topics
from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, schema_id
from retail_stream.avro.registry import Registry
from retail_stream.dead_letters import Header
from retail_stream.entities import Entity

_SHOWN_BYTES = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Schema id → schema.
Schemas = Mapping[int, RecordSchema]


def raw_schemas(registry: Registry, entity: Entity) -> Schemas:
    """The registered schemas of an entity's raw topic, by id.

    Raises:
        Unavailable: the registry does not answer.
    """
    versions = registry.versions(topics.topic(topics.raw(entity)).subject)
    return {number: RecordSchema(schema) for number, schema in versions.values()}


def as_dict(letter: Letter, known: Schemas, shown_bytes: int = _SHOWN_BYTES) -> dict[str, Any]:
    """All fields of a dead letter as plain values for JSON; ``value`` is None unless the bytes can be decoded.

    ``value_hex``: the first ``shown_bytes`` of the ``value_bytes`` bytes.
    """
    value, origin, at = letter.value, letter.origin, letter.at
    return {
        "entity": letter.entity.value,
        "origin": None if origin is None else str(origin),
        "letter": f"{topics.dlq(letter.entity)}/{letter.partition}/{letter.offset}",
        "time": None if at is None else at.isoformat(timespec="milliseconds"),
        "timestamp_ms": letter.timestamp,
        "rules": list(letter.rules),
        "rules_version": letter.text(Header.RULES_VERSION),
        "message": letter.text(Header.MESSAGE),
        "replay_of": None if letter.replay_of is None else letter.replay_of.decode(errors="replace"),
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "value": _decoded(value, known),
        "value_bytes": None if value is None else len(value),
        "value_hex": None if value is None else value[:shown_bytes].hex(),
    }


def as_json(letter: Letter, known: Schemas) -> str:
    """One line of ASCII: every character that some program could take for a line break is escaped."""
    return json.dumps(as_dict(letter, known), allow_nan=False)


def as_text(letter: Letter, known: Schemas) -> str:
    """A few lines for a terminal: the reasons first, then the record."""
    fields = as_dict(letter, known)
    origin, value = letter.origin, fields["value"]
    if value is not None:
        shown = "  ".join(f"{name}={json.dumps(field, ensure_ascii=False)}" for name, field in value.items())
    elif letter.value is None:
        shown = "null"
    else:
        shown = (
            f"{fields['value_bytes']:,} bytes: {fields['value_hex']}{'…' if len(letter.value) > _SHOWN_BYTES else ''}"
        )
    place = "unknown origin" if origin is None else f"{origin.topic}/{origin.partition}@{origin.offset}"
    time = fields["time"] or f"timestamp {letter.timestamp}"
    lines = [
        f"{place}   {time}   ({topics.dlq(letter.entity)}/{letter.partition}@{letter.offset})",
        f"  rules    {', '.join(fields['rules'])}   (version {fields['rules_version'] or 'unknown'})",
        f"  why      {fields['message'] or 'unknown'}",
        f"  key      {fields['key']}",
        f"  value    {shown}",
    ]
    if fields["replay_of"] is not None:
        lines.append(f"  replay   of {fields['replay_of']}")
    return "\n".join(map(for_terminal, lines))


def for_terminal(text: str, most: int = 2000) -> str:
    """Untrusted text on one line, cut to ``most`` characters, its control characters escaped."""
    kept = text if len(text) <= most else f"{text[:most]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in kept)


def _decoded(value: bytes | None, known: Schemas) -> dict[str, Any] | None:
    writer = known.get(schema_id(value) or 0)
    record = None if value is None or writer is None else writer.record(value[HEADER_BYTES:])
    if record is None or writer is None:
        return None
    records = writer.schema if isinstance(writer.schema, list) else [writer.schema]
    fields = [f for r in records if isinstance(r, Mapping) for f in r.get("fields", ())]
    times = {f["name"] for f in fields if "timestamp-micros" in json.dumps(f["type"])}
    return {name: _plain(field, name in times) for name, field in record.items()}


def _plain(field: Any, is_time: bool = False) -> Any:
    if isinstance(field, dict):
        return {str(name): _plain(inner) for name, inner in field.items()}
    if isinstance(field, list):
        return list(map(_plain, field))
    if isinstance(field, bytes):
        return field.hex()
    if isinstance(field, float) and not math.isfinite(field):
        return str(field)
    if is_time and isinstance(field, int):
        try:
            return (_EPOCH + timedelta(microseconds=field)).isoformat()
        except OverflowError:
            return field
    return field
