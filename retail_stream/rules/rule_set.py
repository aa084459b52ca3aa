"""The rules of an entity as they stand in `schemas/rules/<entity>.toml`, and the version that records name."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from retail_stream import topics
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.rules import built_in
from retail_stream.rules.built_in import Action, Expectation
from retail_stream.rules.compiling import compiled
from retail_stream.rules.syntax import ConditionError
from retail_stream.rules.types import INT32, INT64, Field, Kind

FOLDER = topics.SCHEMAS / "rules"
RECORD_TIME = "record_time"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Rule:
    """One expectation. ``must``: an SQL condition, true for a good record; NULL is not true.

    ``why``: a sentence for people. ``default``: what the text field ``field`` gets; only with :attr:`Action.DEFAULT`.
    """

    name: str
    must: str
    action: Action
    why: str
    field: str = ""
    default: str = ""


@dataclass(frozen=True)
class RuleSet:
    """The rules of one entity, in the order of the file. ``built_in``: the version of the rules that are code.

    ``limits``: the fields that must be storable and what they hold, by the raw schema of that time; None in what was
    published before versions held them, which means today's.
    """

    entity: Entity
    rules: tuple[Rule, ...]
    built_in: int = built_in.VERSION
    limits: Mapping[str, Holds] | None = field(default=None, hash=False)

    @cached_property
    def version(self) -> str:
        """A hash of the content, so that the same rules have the same version wherever and whenever they judge."""
        return hashlib.sha256(json.dumps(self._content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def key(self) -> str:
        """The key of its record on `cleaner.rules`."""
        return f"{self.entity}/{self.version}"

    @property
    def _content(self) -> dict[str, Any]:
        rules = [{n: v for n, v in asdict(rule).items() if v} for rule in self.rules]
        limits = {} if self.limits is None else {"limits": dict(self.limits)}
        return {"entity": self.entity, "built_in": self.built_in, "rules": rules, **limits}

    def as_json(self) -> bytes:
        """The value of its record on `cleaner.rules`."""
        return json.dumps({**self._content, "version": self.version}, ensure_ascii=False).encode()

    @cached_property
    def expectations(self) -> tuple[Expectation, ...]:
        """What every record that can be decoded must meet: the rules that are code, then these.

        Raises:
            ValueError: a condition is not valid.
        """
        limits = built_in.limited(self.entity) if self.limits is None else self.limits
        return (*built_in.of_values(self.entity, limits), *(_expectation(self.entity, rule) for rule in self.rules))


class RuleError(SettingsError):
    """A rule is not valid: the sentence names file, rule and position."""


def load(entity: Entity, folder: Path = FOLDER) -> RuleSet:
    """The rules of ``<folder>/<entity>.toml``, checked.

    Raises:
        RuleError: the file or a rule is not valid.
    """
    return read(entity, folder / f"{entity}.toml")


def load_all(folder: Path = FOLDER) -> Mapping[Entity, RuleSet]:
    """The rules of every entity, checked.

    Raises:
        RuleError: a file or a rule is not valid.
    """
    return {entity: load(entity, folder) for entity in Entity}


def read(entity: Entity, path: Path) -> RuleSet:
    """The rules of a file, checked; a missing file is an error.

    Raises:
        RuleError: the file or a rule is not valid.
    """
    shown = "/".join(path.parts[-3:])
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RuleError(f"{shown} cannot be read: {e.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RuleError(f"{shown} is not valid TOML: {e}.") from None
    rules = []
    for name, table in tables.items():
        try:
            rules.append(_rule(entity, name, table))
        except ValueError as e:
            raise RuleError(f"{shown}: rule {name}: {e}.") from None
    rule_set = RuleSet(entity, tuple(rules), limits=built_in.limited(entity))
    try:
        _check(rule_set)
    except ValueError as e:
        raise RuleError(f"{shown}: {e}.") from None
    return rule_set


def parse(value: bytes) -> RuleSet:
    """The rule set of a record of `cleaner.rules`, checked.

    Raises:
        ValueError: it is not one.
    """
    data = json.loads(value)
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        raise ValueError("it is not a rule set")
    entity = Entity(str(data.get("entity")))
    rules = tuple(_rule(entity, r.get("name"), {n: v for n, v in r.items() if n != "name"}) for r in data["rules"])
    limits = data.get("limits")
    if limits is not None:
        limits = {str(name): Holds(kind) for name, kind in dict(limits).items()}
    rule_set = RuleSet(entity, rules, int(data.get("built_in", 0)), limits)
    _check(rule_set)
    return rule_set


@cache
def fields_of(entity: Entity) -> Mapping[str, Field]:
    """What conditions may name: the fields of the raw schema, and the Kafka record's timestamp as ``record_time``."""
    schema = topics.topic(topics.raw(entity)).schema()
    found = {f["name"]: _field(f["type"]) for f in schema["fields"]}
    return {**{n: f for n, f in found.items() if f is not None}, RECORD_TIME: Field(Kind.TIME)}


def _field(avro_type: Any) -> Field | None:
    if isinstance(avro_type, list):
        held = [t for t in avro_type if t != "null"]
        return _field(held[0]) if len(held) == 1 else None
    if isinstance(avro_type, dict):
        return Field(Kind.TIME) if avro_type.get("logicalType") == "timestamp-micros" else _field(avro_type.get("type"))
    whole = {"int": INT32, "long": INT64}.get(str(avro_type))
    kinds = {"double": Kind.DOUBLE, "float": Kind.DOUBLE, "string": Kind.TEXT, "boolean": Kind.TRUTH}
    kind = Kind.WHOLE if whole else kinds.get(str(avro_type))
    return None if kind is None else Field(kind, *(whole or ()))


def _rule(entity: Entity, name: Any, table: Any) -> Rule:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("the name is not valid; allowed are a-z, 0-9 and _, beginning with a letter")
    if name in built_in.NAMES:
        raise ValueError("the name belongs to a rule that is code; choose another")
    known = [f.name for f in fields(Rule) if f.name != "name"]
    if not isinstance(table, dict) or (strange := next((n for n in table if n not in known), None)):
        what = f"'{strange}' is not known" if isinstance(table, dict) else "it is not a table"
        raise ValueError(f"{what}; allowed are {', '.join(known)}")
    if wrong := next((n for n, v in table.items() if not isinstance(v, str)), None):
        raise ValueError(f"{wrong} is not a text")
    if missing := next((n for n in ("must", "action", "why") if not table.get(n, "").strip()), None):
        raise ValueError(f"{missing} is missing")
    if table["action"] not in list(Action):
        raise ValueError(f"action '{table['action']}' is not known; allowed are {', '.join(Action)}")
    rule = Rule(name, **{**table, "action": Action(table["action"])})
    if rule.action is Action.DEFAULT:
        if not rule.default or fields_of(entity).get(rule.field, Field(Kind.TRUTH)).kind is not Kind.TEXT:
            raise ValueError("the action default needs `field`, a text field, and `default`, a text that is not empty")
    elif rule.field or rule.default:
        raise ValueError(f"`field` and `default` go with the action default, and this is {rule.action}")
    return rule


def _check(rule_set: RuleSet) -> None:
    names = [r.name for r in rule_set.rules]
    filled = [r.field for r in rule_set.rules if r.field]
    for noun, given in (("rules are named", names), ("rules have a default for", filled)):
        if twice := next((n for n in given if given.count(n) > 1), None):
            raise ValueError(f"two {noun} {twice}; one is allowed")
    assert rule_set.expectations


def _expectation(entity: Entity, rule: Rule) -> Expectation:
    try:
        held = compiled(rule.must, fields_of(entity))
    except ConditionError as e:
        raise ValueError(f"rule {rule.name}: character {e.position} of its condition: {e.what}") from None
    return Expectation(rule.name, rule.must, held, rule.action, rule.field, rule.default)
