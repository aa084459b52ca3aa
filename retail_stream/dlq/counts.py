"""What was rejected and why, counted from the dead letter topics."""

from dataclasses import dataclass
from datetime import datetime

from retail_stream.dlq import letters
from retail_stream.entities import Entity
from retail_stream.settings import Connections


@dataclass
class RuleCount:
    """How many dead letters of an entity broke a rule, and the timestamps of the first and the last of them."""

    entity: Entity
    rule: str
    count: int
    first: datetime
    last: datetime


def count_by_rule(connections: Connections) -> list[RuleCount]:
    """Read all dead letter topics; a record that broke several rules counts for each.

    Raises:
        Unavailable: no broker answers.
    """
    counts: dict[tuple[Entity, str], RuleCount] = {}
    for letter in letters.read(connections, letters.Selection()):
        for rule in letter.rules:
            seen = counts.setdefault((letter.entity, rule), RuleCount(letter.entity, rule, 0, letter.at, letter.at))
            seen.count += 1
            seen.first, seen.last = min(seen.first, letter.at), max(seen.last, letter.at)
    return sorted(counts.values(), key=lambda c: (list(Entity).index(c.entity), -c.count, c.rule))
