"""Avro schemas as parsed JSON, and what follows from the types of their fields."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import polars as pl

AvroSchema = Mapping[str, Any]

#: primitive type → dtype of its column
DTYPES: Mapping[str, pl.DataType] = {
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float64(),
    "double": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "bytes": pl.Binary(),
}


def plain_schema(schema: AvroSchema) -> dict[str, Any]:
    """The same wire layout with logical types dropped: times stay int64 microseconds since 1970-01-01 UTC."""

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(n) for n in node]
        if isinstance(node, Mapping):
            if isinstance(node["type"], str) and node["type"] in DTYPES:
                return node["type"]
            return {k: plain(v) if k in ("type", "items", "values") else v for k, v in node.items()}
        return node

    fields = [{**f, "type": plain(f["type"])} for f in schema["fields"]]
    return {**schema, "fields": fields}


def scalar(avro_type: Any) -> str | None:
    """The primitive under a field's type, nullable or not; None for anything that has no column of its own."""
    if isinstance(avro_type, list):
        rest = [t for t in avro_type if t != "null"]
        return scalar(rest[0]) if len(rest) == 1 and len(avro_type) == 2 else None
    return avro_type if isinstance(avro_type, str) and avro_type in DTYPES else None


class Holds(StrEnum):
    """What a field holds, if Postgres has limits for it; ``TIME``: microseconds since 1970-01-01 UTC."""

    TEXT = "text"
    AMOUNT = "amount"
    TIME = "time"


def holds_of(avro_type: Any) -> Holds | None:
    """What a field of this type holds; None if it needs no limits or has no column."""
    if isinstance(avro_type, list):
        rest = [t for t in avro_type if t != "null"]
        return holds_of(rest[0]) if len(rest) == 1 else None
    if isinstance(avro_type, Mapping):
        return Holds.TIME if avro_type.get("logicalType") == "timestamp-micros" else holds_of(avro_type["type"])
    return {"string": Holds.TEXT, "double": Holds.AMOUNT, "float": Holds.AMOUNT}.get(avro_type)
