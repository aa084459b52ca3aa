"""Judges a frame of records by the declared rules: each rule is evaluated once, and each broken rule is reported."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from retail_stream.avro.decoder import ROW
from retail_stream.avro.plan import Int64s
from retail_stream.errors import RetailStreamError
from retail_stream.rules.built_in import Action, Expectation

KEY = "key"
RECORD_TIME = "record_time"


class FailedExpectation(RetailStreamError):
    """A record broke a rule whose action is ``fail``; ``row``: its number in the table."""

    def __init__(self, row: int, rule: Expectation, place: str = "") -> None:
        """``place``: the record's topic, partition and offset, if they are known."""
        super().__init__(
            f"{place or f'Row {row}'} breaks the rule {rule.name}, which stops the cleaner: expected {rule.condition}."
        )
        self.row, self.rule = row, rule


@dataclass
class Verdict:
    """What the rules decide. ``rejected``: row → names of all broken reject rules.

    ``defaults``: (field, the value it gets) → rows, ascending. ``counts``: (action, rule) → how many records broke it.
    """

    rejected: dict[int, tuple[str, ...]] = field(default_factory=dict)
    defaults: dict[tuple[str, str], Int64s] = field(default_factory=dict)
    counts: Counter[tuple[Action, str]] = field(default_factory=Counter)


def judge(table: pl.DataFrame, rules: Sequence[Expectation]) -> Verdict:
    """Judge rows by ``rules``.

    ``table``: a row per record with its ``row`` number, ``key``, ``record_time`` and the fields that rules name.

    Raises:
        FailedExpectation: a record broke a rule with the action ``fail``.
    """
    verdict = Verdict()
    if table.is_empty():
        return verdict
    numbers = table[ROW].to_numpy()
    held = table.select(r.held for r in rules)
    for rule in rules:
        # Most rules hold for all rows: counting bits is cheaper than looking for a row that breaks any.
        if held[rule.name].all():
            continue
        rows = numbers[~held[rule.name].to_numpy()]
        verdict.counts[rule.action, rule.name] += len(rows)
        match rule.action:
            case Action.REJECT:
                for row in rows.tolist():
                    verdict.rejected[row] = (*verdict.rejected.get(row, ()), rule.name)
            case Action.DEFAULT:
                verdict.defaults[rule.field, rule.default] = rows
            case Action.FAIL:
                raise FailedExpectation(int(rows[0]), rule)
            case Action.WARN:
                pass
    return verdict
