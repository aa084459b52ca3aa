"""The rule sets that judged records, as tables of the engine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import polars as pl

from commands.audit import engine as duck
from commands.audit.conditions import define
from commands.audit.layouts import Holds, holds
from commands.audit.rules import limited, storable
from retail_stream.entities import Entity
from retail_stream.rules import built_in, published
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import Rule, RuleSet, load_all
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for


class Condition(NamedTuple):
    """What a good record meets. ``is_code``: the SQL is ours, over the columns of ``raw_<entity>`` as they are."""

    sql: str
    is_code: bool


@dataclass(frozen=True)
class RuleSets:
    """The rule sets of one entity: ``today``'s, and those that `cleaner.rules` holds, by version."""

    today: RuleSet
    published: Mapping[str, RuleSet] = field(default_factory=dict)

    @property
    def entity(self) -> Entity:
        """Whose rules these are."""
        return self.today.entity

    @property
    def foreign(self) -> list[str]:
        """Versions whose verdicts cannot be recomputed: the rules that are code were others, or a field is gone."""
        known = {*holds(self.entity)}
        return [
            v for v, r in self.published.items() if r.built_in != built_in.VERSION or not {*(r.limits or ())} <= known
        ]

    @cached_property
    def conditions(self) -> Mapping[Condition, int]:
        """Each condition that decides about a record → its number."""
        rows = (row for rules in self._versions.values() for row in self._deciding(rules))
        return {condition: number for number, condition in enumerate(dict.fromkeys(c for c, _ in rows))}

    @property
    def recomputable(self) -> Mapping[str, RuleSet]:
        """The published versions whose verdicts can be recomputed."""
        foreign = self.foreign
        return {v: r for v, r in self.published.items() if v not in foreign}

    @property
    def _versions(self) -> Mapping[str, RuleSet]:
        return {self.today.version: self.today, **self.recomputable}

    def _deciding(self, rules: RuleSet) -> Iterator[tuple[Condition, Rule]]:
        """The rules of a version that decide about a record, those that follow from its schema first."""
        # Today's follow from the schema as `verify` reads it, not from what the cleaner wrote.
        of_then = None if rules.version == self.today.version else rules.limits
        limits = limited(self.entity) if of_then is None else {name: Holds(held) for name, held in of_then.items()}
        for rule in storable(limits):
            yield Condition(rule.condition, is_code=True), Rule(rule.name, rule.condition, Action.REJECT, "")
        for own in rules.rules:
            if own.action is not Action.WARN:
                yield Condition(own.must, is_code=False), own

    def unmet(self, engine: duck.Engine) -> str:
        """SQL: the numbers of the conditions that a row of ``raw_<entity>`` does not meet; none if it has no fields."""
        calls = [
            f"CASE WHEN coalesce({self._call(engine, condition, number)}, false) THEN NULL ELSE {number} END"
            for condition, number in self.conditions.items()
        ]
        every = f"[number FOR number IN [{', '.join(calls)}] IF number IS NOT NULL]"
        return f"CASE WHEN decoded THEN {every} ELSE [] END::INTEGER[]" if calls else "[]::INTEGER[]"

    def _call(self, engine: duck.Engine, condition: Condition, number: int) -> str:
        return (
            condition.sql
            if condition.is_code
            else define(engine, self.entity, f"rule_{self.entity}_{number}", condition.sql)
        )

    def load(self, engine: duck.Engine) -> None:
        """Make ``rules_<entity>``: version, ``number`` of the condition, name, action, field, ``value``."""
        rows = [
            (version, self.conditions[condition], r.name, r.action.value, r.field, r.default)
            for version, rules in self._versions.items()
            for condition, r in self._deciding(rules)
        ]
        names = ("version", "number", "name", "action", "field", "value")
        schema: dict[str, pl.DataType] = {n: pl.Int32() if n == "number" else pl.String() for n in names}
        duck.create(engine, f"rules_{self.entity}", schema)
        duck.insert(engine, f"rules_{self.entity}", pl.DataFrame(rows, schema=schema, orient="row"))


def read(connections: Connections) -> Mapping[Entity, RuleSets]:
    """The rule sets that may have judged records until now.

    Raises:
        Unavailable: no broker answered for 30 s.
    """
    there = wait_for(lambda: published.read(connections), COMMAND_PATIENCE_S)
    sets = [p.rule_set for p in there.values()]
    return {
        entity: RuleSets(today, {r.version: r for r in sets if r.entity is entity})
        for entity, today in load_all().items()
    }
