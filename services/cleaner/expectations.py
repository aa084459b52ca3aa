"""The rules that a record must meet, one line each; nothing else decides.

A condition is SQL over the record's fields and ``key`` (text; null if the Kafka key is missing or not UTF-8) and
``record_time`` (the Kafka record's timestamp); times are microseconds since 1970-01-01 UTC. It is true
for a good record, and must be true or false, never NULL, for every record. Comparisons are the total order of Polars
and Postgres, where NaN is larger than everything.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.schema import Holds
from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import raw, topic


class Action(StrEnum):
    """What happens to a record that breaks a rule."""

    DEFAULT = "default"  # the field gets the rule's default, the record goes on
    WARN = "warn"  # counted, the record goes on
    REJECT = "reject"  # to the dead letter queue
    FAIL = "fail"  # the cleaner stops with the record unacknowledged


@dataclass(frozen=True)
class Rule:
    """One expectation; ``field`` and ``default`` only with :attr:`Action.DEFAULT`."""

    name: str
    condition: str
    action: Action = Action.REJECT
    field: str = ""
    default: str = ""


#: The rules before all others, on bytes that have no fields yet.
HEADERS_READABLE = "headers_readable"
VALUE_PRESENT = "value_present"
VALID_AVRO = "valid_avro"
SCHEMA_FORWARDABLE = "schema_forwardable"
#: The rule behind all others: the clean topic takes a batch that holds the record alone.
SIZE_FORWARDABLE = "size_forwardable"

_FIRST_AND_LAST = (-2_208_988_800_000_000, 253_402_300_799_999_999)
_YEARS_1900_TO_9999 = "BETWEEN {} AND {}".format(*_FIRST_AND_LAST)
_FIVE_MINUTES = 300_000_000


def _key_and_time(entity: Entity) -> tuple[Rule, ...]:
    key, time = FIELDS[entity].key, FIELDS[entity].time
    return (
        Rule("key_matches", f"key IS NOT NULL AND key = CAST({key} AS VARCHAR)"),
        Rule("time_in_range", f"{time} {_YEARS_1900_TO_9999}"),
        Rule("time_not_future", f"{time} <= record_time + {_FIVE_MINUTES}"),
    )


def _storable(fields: Mapping[str, Holds], time: str) -> Iterator[Rule]:
    """Rules against what Postgres would refuse or round; other rules judge null."""
    texts, amounts, times = ([f for f, held in fields.items() if held is kind] for kind in Holds)
    if amounts:
        # Also refuses NaN and the infinities.
        yield Rule("amounts_in_range", " AND ".join(f"ABS(COALESCE({f}, 0)) < 1000000000" for f in amounts))
    if dates := [t for t in times if t != time]:
        yield Rule("dates_in_range", " AND ".join(f"COALESCE({d}, 0) {_YEARS_1900_TO_9999}" for d in dates))
    if texts:
        # Postgres' text cannot hold U+0000.
        yield Rule("text_without_nul", " AND ".join(f"NOT REGEXP_LIKE(COALESCE({f}, ''), '\\x00')" for f in texts))


def _or_unknown(field: str) -> Rule:
    return Rule(f"{field}_present", f"REGEXP_LIKE(COALESCE({field}, ''), '\\S')", Action.DEFAULT, field, "Unknown")


#: What the retailer expects of each entity, beyond what every record must be.
EXPECTED: Mapping[Entity, tuple[Rule, ...]] = {
    Entity.SALES: (
        Rule("discount_not_negative", "discount_applied >= 0"),
        Rule("total_matches", "ABS(total_amount - quantity * unit_price) <= 0.011", Action.WARN),
        Rule("quantity_not_zero", "quantity <> 0", Action.WARN),
        Rule("unit_price_not_negative", "unit_price >= 0", Action.WARN),
    ),
    Entity.CUSTOMERS: (
        _or_unknown("email"),
        Rule("age_plausible", "age BETWEEN 0 AND 120", Action.WARN),
        Rule("loyalty_points_not_negative", "loyalty_points >= 0", Action.WARN),
    ),
    Entity.PRODUCTS: (
        Rule("price_not_negative", "price >= 0", Action.WARN),
        Rule("stock_not_negative", "stock_quantity >= 0", Action.WARN),
    ),
    Entity.STORES: (_or_unknown("manager"),),
}


@lru_cache
def rules(entity: Entity) -> tuple[Rule, ...]:
    """All rules of an entity's records."""
    storable = _storable(RecordSchema(topic(raw(entity)).schema()).holds, FIELDS[entity].time)
    return (*_key_and_time(entity), *storable, *EXPECTED.get(entity, ()))


#: The rules as they are declared.
RULES: Mapping[Entity, tuple[Rule, ...]] = {entity: rules(entity) for entity in Entity}

#: A delete has only its key and its ``sequence_time`` (the header's, else the record's timestamp).
TOMBSTONE_RULES: tuple[Rule, ...] = (
    Rule("key_matches", "id IS NOT NULL AND key = CAST(id AS VARCHAR)"),
    Rule("time_in_range", f"sequence_time {_YEARS_1900_TO_9999}"),
    Rule("time_not_future", f"sequence_time <= record_time + {_FIVE_MINUTES}"),
    Rule("sequence_time_valid", "sequence_time_valid"),
)

#: The version of these rules. A dead letter carries it, so that a reader knows which rules judged the record.
RULES_VERSION = hashlib.sha256(repr((RULES, TOMBSTONE_RULES)).encode()).hexdigest()[:12]
