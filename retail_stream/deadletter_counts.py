"""What was rejected and why, counted from the dead letter topics."""

from dataclasses import dataclass
from datetime import UTC, datetime

from retail_stream import kafka, topics
from retail_stream.deadletters import Header
from retail_stream.entities import Entity
from retail_stream.settings import Connections


@dataclass
class RuleCount:
    """How many dead letters of an entity broke a rule, and when the first and last of them were published."""

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
    for entity in Entity:
        for message in kafka.read_to_end(connections, topics.dlq(entity)):
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
            for rule in kafka.headers(message).get(Header.RULES, b"unknown").decode().split(","):
                seen = counts.setdefault((entity, rule), RuleCount(entity, rule, 0, at, at))
                seen.count += 1
                seen.first, seen.last = min(seen.first, at), max(seen.last, at)
    return sorted(counts.values(), key=lambda c: (list(Entity).index(c.entity), -c.count, c.rule))
