"""Dead letters by entity and rule, counted from their topics."""

from dataclasses import dataclass
from datetime import datetime

from commands.dlq import letters
from retail_stream.entities import Entity
from retail_stream.settings import Connections


@dataclass
class RuleCount:
    """How many dead letters of an entity broke a rule, and their first and last timestamp.

    The times are None if no timestamp is a date.
    """

    entity: Entity
    rule: str
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None


def count_by_rule(connections: Connections) -> list[RuleCount]:
    """Read all dead letter topics; a record that broke several rules counts for each.

    Raises:
        Unavailable: no broker answered for 30 s.
    """
    counts: dict[tuple[Entity, str], RuleCount] = {}
    for letter in letters.read(connections, letters.Selection()):
        for rule in letter.rules:
            seen = counts.setdefault((letter.entity, rule), RuleCount(letter.entity, rule))
            seen.count += 1
            if letter.at is not None:
                seen.first = min(seen.first or letter.at, letter.at)
                seen.last = max(seen.last or letter.at, letter.at)
    return sorted(counts.values(), key=lambda c: (list(Entity).index(c.entity), -c.count, c.rule))
