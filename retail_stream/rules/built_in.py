"""The rules that are code: what no rule file can say, and what follows from an entity's schema.

Columns of a record: ``key`` (text; null if the Kafka key is missing or not UTF-8), ``record_time`` (the Kafka record's
timestamp) and its fields; of a delete ``key``, ``id``, ``record_time``, ``sequence_time`` and ``sequence_time_valid``.
Times are microseconds since 1970-01-01 UTC.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import polars as pl

from retail_stream.avro.schema import Holds, holds_of
from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import raw, topic

#: To be raised by a change of what these rules mean: records that an older version judged are then not judged anew.
VERSION = 1

#: The rules before all others, on bytes that have no fields yet.
HEADERS_READABLE = "headers_readable"
VALUE_PRESENT = "value_present"
VALID_AVRO = "valid_avro"
SCHEMA_FORWARDABLE = "schema_forwardable"
#: The rule behind all others: the clean topic takes the record.
SIZE_FORWARDABLE = "size_forwardable"
WITHOUT_FIELDS = (HEADERS_READABLE, VALUE_PRESENT, VALID_AVRO, SCHEMA_FORWARDABLE, SIZE_FORWARDABLE)

_FIRST_US, _LAST_US = -2_208_988_800_000_000, 253_402_300_799_999_999  # of the years 1900 and 9999
_FIVE_MINUTES_US = 300_000_000
_AMOUNT = 1_000_000_000


class Action(StrEnum):
    """What happens to a record that breaks a rule."""

    DEFAULT = "default"  # the field gets the rule's default, the record goes on
    WARN = "warn"  # counted, the record goes on
    REJECT = "reject"  # to the dead letter queue
    FAIL = "fail"  # the cleaner stops with the record unacknowledged


@dataclass(frozen=True, eq=False)
class Expectation:
    """A rule as a column. ``condition``: for people. ``held``: Boolean, whether a record meets it; never null."""

    name: str
    condition: str
    held: pl.Expr
    action: Action = Action.REJECT
    field: str = ""
    default: str = ""

    def __post_init__(self) -> None:
        """A condition that is NULL is not true."""
        object.__setattr__(self, "held", self.held.fill_null(value=False).alias(self.name))


def _in_years(time: pl.Expr) -> pl.Expr:
    return time.is_between(_FIRST_US, _LAST_US)


#: What a field holds → the rule that its values must meet, and which do; null does. Postgres would refuse others.
STORABLE: Mapping[Holds, tuple[str, Callable[[pl.Expr], pl.Expr]]] = {
    # Also refuses NaN and the infinities.
    Holds.AMOUNT: ("amounts_in_range", lambda amount: amount.fill_null(0).abs() < _AMOUNT),
    Holds.TIME: ("dates_in_range", lambda time: _in_years(time.fill_null(0))),
    Holds.TEXT: ("text_without_nul", lambda text: ~text.fill_null("").str.contains("\0", literal=True)),
}


@cache
def limited(entity: Entity) -> Mapping[str, Holds]:
    """The fields of the raw schema whose values Postgres has limits for; not the time, which has a rule of its own."""
    held = {f["name"]: holds_of(f["type"]) for f in topic(raw(entity)).schema()["fields"]}
    return {name: kind for name, kind in held.items() if kind and name != FIELDS[entity].time}


def of_values(entity: Entity, limits: Mapping[str, Holds]) -> tuple[Expectation, ...]:
    """What a record must meet that can be decoded. ``limits``: the fields that must be storable, and what they hold."""
    fields = FIELDS[entity]
    key = pl.col("key") == pl.col(fields.key).cast(pl.String)
    return (
        Expectation("key_matches", f"the key is {fields.key} in decimal digits", key),
        Expectation("time_in_range", f"{fields.time} in the years 1900 to 9999", _in_years(pl.col(fields.time))),
        *_storable(limits),
    )


def _storable(fields: Mapping[str, Holds]) -> Iterator[Expectation]:
    for kind, (rule, holds) in STORABLE.items():
        if names := [name for name, held in fields.items() if held is kind]:
            yield Expectation(rule, f"{rule} of {', '.join(names)}", _all([holds(pl.col(name)) for name in names]))


def _all(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return pl.all_horizontal(conditions)


#: What a delete must meet. Its time is ``sequence_time``: the header's, else the record's timestamp.
OF_DELETES: tuple[Expectation, ...] = (
    Expectation("key_matches", "the key is an int32 in decimal digits", pl.col("key") == pl.col("id").cast(pl.String)),
    Expectation("time_in_range", "a time in the years 1900 to 9999", _in_years(pl.col("sequence_time"))),
    Expectation(
        "time_not_future",
        "a time at most five minutes after the record's",
        pl.col("sequence_time") <= pl.col("record_time") + _FIVE_MINUTES_US,
    ),
    Expectation("sequence_time_valid", "a header sequence.time of eight bytes", pl.col("sequence_time_valid")),
)

#: The names that no other rule may have. ``time_not_future`` is one of both: of values it is in the rule files.
NAMES = frozenset(
    {*WITHOUT_FIELDS, "key_matches", "time_in_range", "sequence_time_valid", *(name for name, _ in STORABLE.values())}
)
