"""The topic `cleaner.rules`: every rule set that was ever in force, written before the first record that it judges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from retail_stream.kafka import clients
from retail_stream.kafka.reading import read_to_end
from retail_stream.rules.rule_set import RuleSet, parse
from retail_stream.settings import Connections
from retail_stream.topics import Result


@dataclass(frozen=True)
class Published:
    """A rule set and when it was first published, in milliseconds since 1970-01-01 UTC."""

    rule_set: RuleSet
    at_ms: int


def read(connections: Connections) -> Mapping[str, Published]:
    """``<entity>/<version>`` → what was published under it, the oldest first.

    A record that is not a rule set of this version of Retail Stream, or not under its own key, is left out.

    Raises:
        Unavailable: no broker answers.
    """
    found: dict[str, Published] = {}
    for message in read_to_end(connections, Result.RULES):
        rule_set = _rule_set(message)
        if rule_set is not None:
            earlier = found.get(rule_set.key)
            at_ms = message.timestamp()[1]
            found[rule_set.key] = Published(rule_set, at_ms if earlier is None else min(at_ms, earlier.at_ms))
    return dict(sorted(found.items(), key=lambda item: (item[1].at_ms, item[0])))


def publish(connections: Connections, rule_sets: Iterable[RuleSet]) -> None:
    """Publish the rule sets that the topic does not hold yet; the brokers have stored them afterwards.

    Raises:
        Unavailable: no broker answers, or none stores them.
    """
    there = read(connections)
    if not (missing := [r for r in rule_sets if r.key not in there]):
        return
    producer = clients.producer(connections)
    for rule_set in missing:
        producer.produce(Result.RULES, rule_set.as_json(), rule_set.key)
    if producer.flush(clients.ANSWER_S):
        producer.purge()
        raise clients.unavailable(connections)


def _rule_set(message: Message) -> RuleSet | None:
    key, value = message.key(), message.value()
    try:
        rule_set = parse(value) if key is not None and value is not None else None
    except (ValueError, TypeError, RecursionError):
        return None
    return rule_set if rule_set is not None and rule_set.key.encode() == key else None
