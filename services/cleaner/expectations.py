"""What this cleaner expects of records: the rules of `schemas/rules`, behind those that are code."""

from collections.abc import Mapping
from functools import lru_cache

from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.rules import built_in, rule_set
from retail_stream.rules.built_in import Action, Expectation
from retail_stream.rules.rule_set import RuleSet


@lru_cache(maxsize=1)
def rule_sets() -> Mapping[Entity, RuleSet]:
    """The rules of every entity, read once.

    Raises:
        RuleError: a file or a rule is not valid.
    """
    return rule_set.load_all()


def rules(entity: Entity) -> tuple[Expectation, ...]:
    """What a record must meet that can be decoded."""
    return rule_sets()[entity].expectations


def version(entity: Entity) -> str:
    """The version of an entity's rules, which each of its records names."""
    return rule_sets()[entity].version


def named(entity: Entity) -> set[tuple[Action, str]]:
    """Every rule that a record of an entity can break, with its action."""
    deletes = built_in.OF_DELETES if entity in DIMENSIONS else ()
    without_fields = {(Action.REJECT, name) for name in built_in.WITHOUT_FIELDS}
    return without_fields | {(rule.action, rule.name) for rule in (*rules(entity), *deletes)}
