"""What a record must be, declared: one line a rule, and nothing else decides.

A condition is SQL over the record's fields and ``key`` (text; null where the Kafka key is missing or no UTF-8) and
``record_time`` (the Kafka record's timestamp); times are microseconds since 1970-01-01 UTC. It says what a good record
is, and must be true or false, never NULL, for every record. Comparisons are the total order of Polars and Postgres,
where NaN is larger than everything.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from retail_stream.entities import FIELDS, Entity


class Action(StrEnum):
    """What happens to a record that breaks a rule."""

    DEFAULT = "default"  # the field gets the rule's default, the record goes on
    WARN = "warn"  # counted, the record goes on
    REJECT = "reject"  # to the dead letter queue
    FAIL = "fail"  # the cleaner stops with the record unacknowledged


class Stage(StrEnum):
    """Where in the cleaner a record was rejected, in Kafka Connect's words."""

    HEADER_CONVERTER = "HEADER_CONVERTER"
    VALUE_CONVERTER = "VALUE_CONVERTER"
    TRANSFORMATION = "TRANSFORMATION"


@dataclass(frozen=True)
class Rule:
    """One expectation; ``field`` and ``default`` only with :attr:`Action.DEFAULT`."""

    name: str
    condition: str
    action: Action = Action.REJECT
    field: str = ""
    default: str = ""


#: The rules that stand before all others, on bytes that have no fields yet.
HEADERS_READABLE = "headers_readable"
VALUE_PRESENT = "value_present"
VALID_AVRO = "valid_avro"

_YEARS_1900_TO_9999 = "BETWEEN -2208988800000000 AND 253402300799999999"
_FIVE_MINUTES = 300_000_000


def _key_and_time(entity: Entity) -> tuple[Rule, ...]:
    key, time = FIELDS[entity].key, FIELDS[entity].time
    return (
        Rule("key_matches", f"key IS NOT NULL AND key = CAST({key} AS VARCHAR)"),
        Rule("time_in_range", f"{time} {_YEARS_1900_TO_9999}"),
        Rule("time_not_future", f"{time} <= record_time + {_FIVE_MINUTES}"),
    )


def _no_nul(*fields: str) -> Rule:
    # Postgres' text cannot hold U+0000.
    return Rule("text_without_nul", " AND ".join(f"NOT REGEXP_LIKE(COALESCE({f}, ''), '\\x00')" for f in fields))


def _bounded(*fields: str) -> Rule:
    # Also refuses NaN and the infinities.
    return Rule("amounts_in_range", " AND ".join(f"ABS({f}) < 1000000000" for f in fields))


def _or_unknown(field: str) -> Rule:
    return Rule(f"{field}_present", f"REGEXP_LIKE(COALESCE({field}, ''), '\\S')", Action.DEFAULT, field, "Unknown")


RULES: dict[Entity, tuple[Rule, ...]] = {
    Entity.SALES: (
        *_key_and_time(Entity.SALES),
        Rule("discount_not_negative", "discount_applied >= 0"),
        _bounded("unit_price", "total_amount", "discount_applied", "tax_amount"),
        _no_nul("payment_method"),
        Rule("total_matches", "ABS(total_amount - quantity * unit_price) <= 0.011", Action.WARN),
        Rule("quantity_not_zero", "quantity <> 0", Action.WARN),
        Rule("unit_price_not_negative", "unit_price >= 0", Action.WARN),
    ),
    Entity.CUSTOMERS: (
        *_key_and_time(Entity.CUSTOMERS),
        Rule("dates_in_range", f"join_date {_YEARS_1900_TO_9999}"),
        _no_nul("name", "email", "address", "phone_number", "gender"),
        _or_unknown("email"),
        Rule("age_plausible", "age BETWEEN 0 AND 120", Action.WARN),
        Rule("loyalty_points_not_negative", "loyalty_points >= 0", Action.WARN),
    ),
    Entity.PRODUCTS: (
        *_key_and_time(Entity.PRODUCTS),
        _bounded("price"),
        _no_nul("name", "category", "brand", "size", "color", "description"),
        Rule("price_not_negative", "price >= 0", Action.WARN),
        Rule("stock_not_negative", "stock_quantity >= 0", Action.WARN),
    ),
    Entity.STORES: (
        *_key_and_time(Entity.STORES),
        Rule("dates_in_range", f"open_date {_YEARS_1900_TO_9999}"),
        _no_nul("name", "address", "manager", "status", "phone_number"),
        _or_unknown("manager"),
    ),
}

#: A delete has no fields but its key and its ``sequence_time`` (the header's, else the record's timestamp).
TOMBSTONE_RULES: tuple[Rule, ...] = (
    Rule("key_matches", "id IS NOT NULL AND key = CAST(id AS VARCHAR)"),
    Rule("time_in_range", f"sequence_time {_YEARS_1900_TO_9999}"),
    Rule("time_not_future", f"sequence_time <= record_time + {_FIVE_MINUTES}"),
    Rule("sequence_time_valid", "sequence_time_valid"),
)

#: Of the rules as they stand; a dead letter carries it, so that a later reader knows by which rules it was judged.
RULES_VERSION = hashlib.sha256(repr((RULES, TOMBSTONE_RULES)).encode()).hexdigest()[:12]
