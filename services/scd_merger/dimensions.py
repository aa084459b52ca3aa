"""A dimension is a declaration: its natural key, its sequence column, and which attributes have a history.

It is a line in `retail_stream.entities` and a schema in ``schemas/clean``; everything else (the frames' columns, the
SQL, the tables that the migration has to create) follows from them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from retail_stream import topics
from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import DIMENSIONS, FIELDS, Entity, Fields
from retail_stream.errors import SettingsError
from retail_stream.kafka.batches import EXTRA


class Kind(StrEnum):
    """What an attribute holds; ``TIME`` is int64 microseconds since 1970-01-01 UTC in every frame."""

    INTEGER = "integer"
    MONEY = "money"
    TEXT = "text"
    TIME = "time"
    FLAG = "flag"


_KINDS = {
    "int": Kind.INTEGER,
    "long": Kind.INTEGER,
    "double": Kind.MONEY,
    "string": Kind.TEXT,
    "boolean": Kind.FLAG,
}
_DTYPES = {
    Kind.INTEGER: pl.Int64(),
    Kind.MONEY: pl.Float64(),
    Kind.TEXT: pl.String(),
    Kind.TIME: pl.Int64(),
    Kind.FLAG: pl.Boolean(),
}
#: Columns that every dimension has beside its attributes.
_TAKEN = frozenset(("deleted", EXTRA, "valid_from", "valid_to", "is_current"))

_CENTS = 100

KEY_DTYPE = pl.Int64()
TIME_DTYPE = pl.Int64()


def cents(amount: pl.Expr) -> pl.Expr:
    """An amount rounded to cents, half to even: the double that numeric(14,2) reads back as."""
    return (amount * _CENTS).round(0, mode="half_to_even") / _CENTS


@dataclass(frozen=True)
class Dimension:
    """One dimension.

    ``key``: the natural key. ``sequence``: the time that orders the changes of a key; a version's ``valid_from`` is
    the sequence of its first change. ``attributes``: columns in the clean schema's order, which is also the order in
    which two changes of one moment are compared. ``untracked``: those of them whose changes make no version.
    """

    entity: Entity
    key: str
    sequence: str
    attributes: dict[str, Kind]
    surrogate: str
    untracked: tuple[str, ...] = ()

    @property
    def tracked(self) -> list[str]:
        """Attributes whose changes make versions."""
        return [name for name in self.attributes if name not in self.untracked]

    @property
    def compared(self) -> list[str]:
        """Columns in which changes of one moment may differ, in the order in which they are compared."""
        return [*self.attributes, EXTRA]

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
        """Columns of a frame of changes: natural key, sequence, ``deleted``, the attributes, then ``extra``: fields
        that the declaration does not know yet, as a JSON object's text, null for none."""
        attributes = {name: _DTYPES[kind] for name, kind in self.attributes.items()}
        return {
            self.key: KEY_DTYPE,
            self.sequence: TIME_DTYPE,
            "deleted": pl.Boolean(),
            **attributes,
            EXTRA: pl.String(),
        }

    def dtypes(self, names: Iterable[str]) -> dict[str, pl.DataType]:
        """Data types of attributes."""
        return {name: _DTYPES[self.attributes[name]] for name in names}

    def of_kind(self, kind: Kind) -> list[str]:
        """Attributes of one kind."""
        return [name for name, k in self.attributes.items() if k == kind]


def declare(entity: Entity, schema: AvroSchema, fields: Fields | None = None) -> Dimension:
    """The declaration of an entity's dimension, whose attributes are all fields but the key and the sequence.

    ``schema``: the clean Avro schema as parsed JSON. ``fields``: what `retail_stream.entities.FIELDS` says.

    Raises:
        SettingsError: the declaration does not fit the schema, or a field is of a type that no column is made for.
    """
    fields = fields or FIELDS[entity]
    kinds = {f["name"]: _kind(entity, f["name"], f["type"]) for f in schema["fields"]}
    attributes = {name: kind for name, kind in kinds.items() if name not in (fields.key, fields.time)}
    allowed = ", ".join(attributes)
    for name in (fields.key, fields.time):
        if name not in kinds:
            raise SettingsError(f"{entity}: there is no field {name!r}; allowed: {', '.join(kinds)}.")
    for name in (*fields.history_on, *fields.history_except):
        if name not in attributes:
            raise SettingsError(f"{entity}: no history is kept of {name!r}; allowed: {allowed}.")
    if fields.history_on and fields.history_except:
        raise SettingsError(f"{entity}: either history_on or history_except; both are given.")
    for field in schema["fields"]:
        if field.get("default") is not None:
            raise SettingsError(
                f"{entity}: field {field['name']!r} has the default {field['default']!r}; allowed: null."
            )
    if clash := sorted(_TAKEN & attributes.keys()):
        raise SettingsError(
            f"{entity}: a dimension has a column {clash[0]!r} of its own; the field needs another name."
        )
    untracked = fields.history_except or tuple(
        n for n in attributes if fields.history_on and n not in fields.history_on
    )
    surrogate = fields.key.removesuffix("_id") + "_sk"
    return Dimension(entity, fields.key, fields.time, attributes, surrogate, untracked)


def dimensions() -> tuple[Dimension, ...]:
    """All dimensions, declared over the schemas in ``schemas/clean``."""
    return tuple(declare(e, clean_schema(e)) for e in DIMENSIONS)


def clean_schema(entity: Entity) -> AvroSchema:
    """The clean schema of an entity, as parsed JSON."""
    return topics.topic(topics.clean(entity)).schema()


def _kind(entity: Entity, name: str, avro_type: object) -> Kind:
    if isinstance(avro_type, list):
        return _kind(entity, name, next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, dict):
        if avro_type.get("logicalType") == "timestamp-micros":
            return Kind.TIME
        return _kind(entity, name, avro_type["type"])
    if avro_type not in _KINDS:
        allowed = ", ".join([*_KINDS, "timestamp-micros"])
        raise SettingsError(f"{entity}: field {name!r} has the type {avro_type!r}; allowed: {allowed}.")
    return _KINDS[str(avro_type)]
