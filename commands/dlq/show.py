"""One dead letter for a person or a program: the decoded record beside the reasons."""

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

SubjectSchemas = Mapping[int, RecordSchema]


def writers(registry: Registry, entity: Entity) -> SubjectSchemas:
    """The schemas that are registered for an entity's raw topic, by id.

    Raises:
        Unavailable: the registry does not answer.
    """
    versions = registry.versions(topics.topic(topics.raw(entity)).subject)
    return {number: RecordSchema(schema) for number, schema in versions.values()}


def described(letter: Letter, known: SubjectSchemas, shown_bytes: int = _SHOWN_BYTES) -> dict[str, Any]:
    """Everything about a letter, as plain values for JSON; ``value`` is null where the bytes are no known record.

    ``value_hex`` has its first ``shown_bytes`` bytes, of ``value_bytes``.
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


def as_json(letter: Letter, known: SubjectSchemas) -> str:
    """One line of ASCII: what some programs take for the end of a line is escaped too."""
    return json.dumps(described(letter, known), allow_nan=False)


def as_text(letter: Letter, known: SubjectSchemas) -> str:
    """A few lines: reasons first, then the record."""
    told = described(letter, known)
    origin, value = letter.origin, told["value"]
    if value is not None:
        shown = "  ".join(f"{name}={json.dumps(field, ensure_ascii=False)}" for name, field in value.items())
    elif letter.value is None:
        shown = "null"
    else:
        shown = f"{told['value_bytes']:,} bytes: {told['value_hex']}{'…' if len(letter.value) > _SHOWN_BYTES else ''}"
    place = "from nowhere known" if origin is None else f"{origin.topic}/{origin.partition}@{origin.offset}"
    time = told["time"] or f"timestamp {letter.timestamp}"
    lines = [
        f"{place}   {time}   ({topics.dlq(letter.entity)}/{letter.partition}@{letter.offset})",
        f"  rules    {', '.join(told['rules'])}   (version {told['rules_version'] or 'unknown'})",
        f"  why      {told['message'] or 'unknown'}",
        f"  key      {told['key']}",
        f"  value    {shown}",
    ]
    if told["replay_of"] is not None:
        lines.append(f"  replay   of {told['replay_of']}")
    return "\n".join(map(for_terminal, lines))


def for_terminal(text: str, most: int = 2000) -> str:
    """A text that anyone may have written, on one line and without what would steer a terminal."""
    kept = text if len(text) <= most else f"{text[:most]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in kept)


def _decoded(value: bytes | None, known: SubjectSchemas) -> dict[str, Any] | None:
    writer = known.get(schema_id(value) or 0)
    record = None if value is None or writer is None else writer.record(value[HEADER_BYTES:])
    if record is None or writer is None:
        return None
    times = {f["name"] for f in writer.schema["fields"] if "timestamp-micros" in json.dumps(f["type"])}
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
