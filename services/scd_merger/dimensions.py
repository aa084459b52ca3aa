"""A dimension is a declaration: its natural key, its sequence column, its attributes and its tables.

Everything else (the frames' columns, the SQL, the tables that the migration has to create) follows from it.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.wire import AvroSchema


class Kind(StrEnum):
    """What an attribute holds; ``TIME`` is int64 microseconds since 1970-01-01 UTC in every frame."""

    INTEGER = "integer"
    MONEY = "money"
    TEXT = "text"
    TIME = "time"


_KINDS = {"int": Kind.INTEGER, "long": Kind.INTEGER, "double": Kind.MONEY, "string": Kind.TEXT}
_DTYPES = {Kind.INTEGER: pl.Int64(), Kind.MONEY: pl.Float64(), Kind.TEXT: pl.String(), Kind.TIME: pl.Int64()}

KEY_DTYPE = pl.Int64()
TIME_DTYPE = pl.Int64()


@dataclass(frozen=True)
class Dimension:
    """One dimension.

    ``key``: the natural key. ``sequence``: the time that orders the changes of a key; a version's ``valid_from`` is
    the sequence of its first change. ``attributes``: the tracked columns in the clean schema's order, which is also
    the order in which two changes of one moment are compared.
    """

    entity: Entity
    key: str
    sequence: str
    attributes: dict[str, Kind]
    surrogate: str

    @property
    def topic(self) -> str:
        """The clean topic that carries the changes."""
        return topics.clean(self.entity)

    @property
    def table(self) -> str:
        """The table of versions."""
        return f"dim_{self.entity}"

    @property
    def changes_table(self) -> str:
        """The table of winning changes: what is needed to split a version later."""
        return f"{self.entity}_changes"

    @property
    def change_schema(self) -> dict[str, pl.DataType]:
        """Columns of a frame of changes: natural key, sequence, ``deleted``, then the attributes."""
        attributes = {name: _DTYPES[kind] for name, kind in self.attributes.items()}
        return {self.key: KEY_DTYPE, self.sequence: TIME_DTYPE, "deleted": pl.Boolean(), **attributes}

    def of_kind(self, kind: Kind) -> list[str]:
        """Attributes of one kind."""
        return [name for name, k in self.attributes.items() if k == kind]


def declare(entity: Entity, schema: AvroSchema) -> Dimension:
    """The declaration of an entity's dimension, whose attributes are all fields but the key and the sequence.

    ``schema``: the clean Avro schema as parsed JSON.
    """
    fields = FIELDS[entity]
    kinds = {f["name"]: _kind(f["type"]) for f in schema["fields"]}
    attributes = {name: kind for name, kind in kinds.items() if name not in (fields.key, fields.time)}
    return Dimension(entity, fields.key, fields.time, attributes, surrogate=fields.key.removesuffix("_id") + "_sk")


def dimensions() -> tuple[Dimension, ...]:
    """All dimensions, declared over the schemas in ``schemas/clean``."""
    return tuple(declare(e, clean_schema(e)) for e in DIMENSIONS)


def clean_schema(entity: Entity) -> AvroSchema:
    """The clean schema of an entity, as parsed JSON."""
    return json.loads((topics.SCHEMAS / "clean" / f"{entity}.avsc").read_text())


def _kind(avro_type: object) -> Kind:
    if isinstance(avro_type, list):
        return _kind(next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, dict):
        return Kind.TIME if avro_type.get("logicalType") == "timestamp-micros" else _kind(avro_type["type"])
    return _KINDS[str(avro_type)]
