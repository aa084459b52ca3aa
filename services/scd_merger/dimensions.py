"""A dimension is a declaration: its natural key, its sequence column, and which attributes have a history.

The declaration is a line in `retail_stream.entities` and a schema in ``schemas/clean``. Everything else follows from
these: the columns of frames, the SQL, the tables that a migration has to create.
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


class AttributeType(StrEnum):
    """The type of an attribute; ``TIME`` is int64 microseconds since 1970-01-01 UTC in every frame."""

    INTEGER = "integer"
    MONEY = "money"
    TEXT = "text"
    TIME = "time"
    FLAG = "flag"


_TYPES = {
    "int": AttributeType.INTEGER,
    "long": AttributeType.INTEGER,
    "double": AttributeType.MONEY,
    "string": AttributeType.TEXT,
    "boolean": AttributeType.FLAG,
}
_DTYPES = {
    AttributeType.INTEGER: pl.Int64(),
    AttributeType.MONEY: pl.Float64(),
    AttributeType.TEXT: pl.String(),
    AttributeType.TIME: pl.Int64(),
    AttributeType.FLAG: pl.Boolean(),
}
#: The columns that every dimension has beside its attributes.
_TAKEN = frozenset(("deleted", EXTRA, "valid_from", "valid_to", "is_current"))

_CENTS = 100

KEY_DTYPE = pl.Int64()
TIME_DTYPE = pl.Int64()


def cents(amount: pl.Expr) -> pl.Expr:
    """An amount rounded to cents, half to even, as the double that is read back from numeric(14,2)."""
    return (amount * _CENTS).round(0, mode="half_to_even") / _CENTS


@dataclass(frozen=True)
class Dimension:
    """One dimension.

    ``key``: the natural key. ``sequence``: the time that orders the changes of a key; a version's ``valid_from`` is the
    sequence of its first change. ``attributes``: columns in the order of the clean schema, in which two changes of one
    time are compared. ``untracked``: the attributes whose changes do not make versions.
    """

    entity: Entity
    key: str
    sequence: str
    attributes: dict[str, AttributeType]
    surrogate: str
    untracked: tuple[str, ...] = ()

    @property
    def tracked(self) -> list[str]:
        """Attributes whose changes make versions."""
        return [name for name in self.attributes if name not in self.untracked]

    @property
    def compared(self) -> list[str]:
        """The columns in which changes of one time may differ, in the order in which they are compared."""
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
        """The table of winning changes, by which a late change can split a version."""
        return f"{self.entity}_changes"

    @property
    def change_schema(self) -> dict[str, pl.DataType]:
        """Columns of a frame of changes: natural key, sequence, ``deleted``, the attributes, ``extra``.

        ``extra``: the fields that the declaration does not know yet, as the text of a JSON object; null for none.
        """
        attributes = {name: _DTYPES[t] for name, t in self.attributes.items()}
        return {
            self.key: KEY_DTYPE,
            self.sequence: TIME_DTYPE,
            "deleted": pl.Boolean(),
            **attributes,
            EXTRA: pl.String(),
        }

    def dtypes(self, names: Iterable[str]) -> dict[str, pl.DataType]:
        """The data types of attributes in frames."""
        return {name: _DTYPES[self.attributes[name]] for name in names}

    def of_type(self, wanted: AttributeType) -> list[str]:
        """The attributes of one type, in order."""
        return [name for name, t in self.attributes.items() if t == wanted]


def declare(entity: Entity, schema: AvroSchema, fields: Fields | None = None) -> Dimension:
    """Declare the dimension of an entity; its attributes are all fields but the key and the sequence.

    ``schema``: the clean Avro schema as parsed JSON. ``fields``: default `retail_stream.entities.FIELDS`.

    Raises:
        SettingsError: the declaration does not fit the schema, or a field has a type without a column type.
    """
    fields = fields or FIELDS[entity]
    types = {f["name"]: _type(entity, f["name"], f["type"]) for f in schema["fields"]}
    attributes = {name: t for name, t in types.items() if name not in (fields.key, fields.time)}
    allowed = ", ".join(attributes)
    for name in (fields.key, fields.time):
        if name not in types:
            raise SettingsError(f"{entity}: the schema has no field {name!r}; allowed: {', '.join(types)}.")
    for name in (*fields.history_on, *fields.history_except):
        if name not in attributes:
            raise SettingsError(f"{entity}: {name!r} is not an attribute that can have a history; allowed: {allowed}.")
    if fields.history_on and fields.history_except:
        raise SettingsError(f"{entity}: history_on and history_except are both set; allowed: one of them.")
    for field in schema["fields"]:
        if field.get("default") is not None:
            raise SettingsError(
                f"{entity}: field {field['name']!r} has the default {field['default']!r}; allowed: null or none."
            )
    if clash := sorted(_TAKEN & attributes.keys()):
        raise SettingsError(
            f"{entity}: field {clash[0]!r} has the name of a column that every dimension has; allowed: another name."
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


def _type(entity: Entity, name: str, avro_type: object) -> AttributeType:
    if isinstance(avro_type, list):
        return _type(entity, name, next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, dict):
        if avro_type.get("logicalType") == "timestamp-micros":
            return AttributeType.TIME
        return _type(entity, name, avro_type["type"])
    if avro_type not in _TYPES:
        allowed = ", ".join([*_TYPES, "timestamp-micros"])
        raise SettingsError(f"{entity}: field {name!r} has the type {avro_type!r}; allowed: {allowed}.")
    return _TYPES[str(avro_type)]
