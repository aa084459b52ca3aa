"""What a good record is beside the rules of `schemas/rules`, as DuckDB's SQL: the rules that are code, a second time.

The rules have the names that the cleaner gives them, so that they can be compared with the ``rules`` of a dead letter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from commands.audit.layouts import Holds, holds
from retail_stream.entities import FIELDS, Entity

UNKNOWN = "Unknown"
HEADERS_READABLE = "headers_readable"
VALUE_PRESENT = "value_present"
VALID_AVRO = "valid_avro"

#: The field that may be null or blank in raw records and is ``UNKNOWN`` then in clean ones.
DEFAULTED: Mapping[Entity, str] = {Entity.CUSTOMERS: "email", Entity.STORES: "manager"}

_LIMITED = (Holds.TEXT, Holds.AMOUNT, Holds.TIME)
_FIVE_MINUTES = 5 * 60 * 1_000_000
# A blank is all of Unicode's White_Space: RE2 has the separators as a class and needs the six controls by name.
_SOMETHING = r"[^\t-\r\x{85}\p{Z}]"


@dataclass(frozen=True)
class Rule:
    """A rule: its ``condition``, in SQL, holds for a good record. NULL counts as broken."""

    name: str
    condition: str


def _in_years(time: str) -> str:
    return f"{time} >= epoch_us(TIMESTAMP '1900-01-01') AND {time} < epoch_us(TIMESTAMP '10000-01-01')"


def _all(name: str, conditions: Iterable[str]) -> Rule:
    return Rule(name, " AND ".join(["true", *conditions]))


def _or_null(field: str, condition: str) -> str:
    return f"({field} IS NULL OR ({condition}))"


def of_values(entity: Entity) -> tuple[Rule, ...]:
    """The rules of a record that can be decoded, whatever its schema was; columns as in ``raw_<entity>``."""
    key, time = FIELDS[entity].key, FIELDS[entity].time
    return Rule("key_matches", f"key_text = {key}::VARCHAR"), Rule("time_in_range", _in_years(time))


def limited(entity: Entity) -> Mapping[str, Holds]:
    """The fields that must be storable by today's schema, and what they hold."""
    own = FIELDS[entity].time
    return {name: held for name, held in holds(entity).items() if held is not Holds.OTHER and name != own}


def stored(entity: Entity, field: str) -> str:
    """SQL: a field's value in the warehouse: NULL for one that its column cannot hold, as older records may have it."""
    rules = storable({field: held} if (held := limited(entity).get(field)) else {})
    return f"CASE WHEN {rules[0].condition} THEN {field} END" if rules else field


def storable(limits: Mapping[str, Holds]) -> tuple[Rule, ...]:
    """The rules that values of these fields must meet, as Postgres would refuse others."""
    texts, amounts, dates = ([n for n, held in limits.items() if held is kind] for kind in _LIMITED)
    rules = (
        _all("text_without_nul", (f"coalesce(instr({t}, chr(0)), 0) = 0" for t in texts)),
        _all("amounts_in_range", (_or_null(a, f"isfinite({a}) AND abs({a}) < 1e9") for a in amounts)),
        _all("dates_in_range", (_or_null(d, _in_years(d)) for d in dates)),
    )
    return tuple(rule for rule, fields in zip(rules, (texts, amounts, dates), strict=True) if fields)


def of_tombstones() -> tuple[Rule, ...]:
    """The rules of a delete."""
    time = "coalesce(sequence, ts)"
    return (
        Rule(
            "key_matches",
            "regexp_full_match(key_text, '0|-?[1-9][0-9]{0,9}') AND TRY_CAST(key_text AS INT) IS NOT NULL",
        ),
        Rule("time_in_range", _in_years(time)),
        Rule("time_not_future", f"{time} <= ts + {_FIVE_MINUTES}"),
        Rule("sequence_time_valid", "sequence_ok"),
    )


def broken(rules: tuple[Rule, ...]) -> str:
    """SQL: the names of the broken rules, sorted, with commas between; '' for a good record."""
    names = ", ".join(
        f"CASE WHEN coalesce({r.condition}, false) THEN NULL ELSE '{r.name}' END"
        for r in sorted(rules, key=lambda r: r.name)
    )
    return f"concat_ws(',', {names})"


def cleaned(entity: Entity, field: str) -> str:
    """SQL: a field's value in the clean record."""
    if DEFAULTED.get(entity) != field:
        return field
    return f"CASE WHEN regexp_matches(coalesce({field}, ''), '{_SOMETHING}') THEN {field} ELSE '{UNKNOWN}' END"
