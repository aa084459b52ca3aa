"""The fields of each entity and what they hold, by its raw schema."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from retail_stream import topics
from retail_stream.entities import Entity


class Holds(StrEnum):
    """What a field holds; ``TIME`` is microseconds, ``AMOUNT`` money."""

    TEXT = "text"
    AMOUNT = "amount"
    TIME = "time"
    OTHER = "other"


@cache
def holds(entity: Entity) -> Mapping[str, Holds]:
    """Field → what it holds, in schema order."""
    return of_fields(topics.topic(topics.raw(entity)).schema()["fields"])


def of_fields(fields: Iterable[Mapping[str, Any]]) -> Mapping[str, Holds]:
    """Field → what it holds, of the fields of any record schema."""
    return {f["name"]: _holds(f["type"]) for f in fields}


def named(entity: Entity, held: Holds) -> tuple[str, ...]:
    """The fields that hold the same, in schema order."""
    return tuple(name for name, own in holds(entity).items() if own is held)


def _holds(avro_type: Any) -> Holds:
    if isinstance(avro_type, list):
        values = [t for t in avro_type if t != "null"]
        # A union of several values has no column.
        return _holds(values[0]) if len(values) == 1 and len(avro_type) == 2 else Holds.OTHER
    if isinstance(avro_type, dict):
        return Holds.TIME if avro_type.get("logicalType") == "timestamp-micros" else _holds(avro_type["type"])
    return {"string": Holds.TEXT, "double": Holds.AMOUNT, "float": Holds.AMOUNT}.get(avro_type, Holds.OTHER)
