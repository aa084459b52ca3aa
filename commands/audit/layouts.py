"""What kinds of fields an entity has, by its raw schema."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

from retail_stream.entities import Entity
from retail_stream.topics import SCHEMAS


class Holds(StrEnum):
    """What a field holds; ``TIME`` is microseconds, ``AMOUNT`` money."""

    TEXT = "text"
    AMOUNT = "amount"
    TIME = "time"
    OTHER = "other"


@cache
def holds(entity: Entity) -> Mapping[str, Holds]:
    """Field → what it holds, in schema order."""
    return of_fields(json.loads((SCHEMAS / "raw" / f"{entity}.avsc").read_text())["fields"])


def of_fields(fields: Iterable[Mapping[str, Any]]) -> Mapping[str, Holds]:
    """The same of a record schema's fields."""
    return {f["name"]: _holds(f["type"]) for f in fields}


def named(entity: Entity, kind: Holds) -> tuple[str, ...]:
    """Fields of one kind."""
    return tuple(name for name, held in holds(entity).items() if held is kind)


def _holds(avro_type: Any) -> Holds:
    if isinstance(avro_type, list):
        return _holds(next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, dict):
        return Holds.TIME if avro_type.get("logicalType") == "timestamp-micros" else _holds(avro_type["type"])
    return {"string": Holds.TEXT, "double": Holds.AMOUNT, "float": Holds.AMOUNT}.get(avro_type, Holds.OTHER)
