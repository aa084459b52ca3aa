"""Dead letters back to where they came from, to be judged again: same key, value, timestamp and partition.

Each carries the header ``replay.of`` with the place of the first original, whatever number of times it was rejected
and replayed since; consumers drop the second record of one ``replay.of``, so that replaying twice counts once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from retail_stream import kafka, topics
from retail_stream.dlq.letters import Headers, Letter
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka import REPLAY_OF
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S

_WAIT_S = 1.0


class Plan:
    """What a replay does, or did: (entity, rules) → how many letters go back, and how many cannot."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.going: Counter[tuple[Entity, str]] = Counter()
        self.stuck: Counter[tuple[Entity, str]] = Counter()

    def take(self, letter: Letter, partitions: Mapping[str, int]) -> bool:
        """Count a letter; whether it can go back: its headers name a place on the entity's raw topic that exists."""
        origin = letter.origin
        possible = origin is not None and origin.partition < partitions[origin.topic]
        (self.going if possible else self.stuck)[letter.entity, ", ".join(letter.rules)] += 1
        return possible


def partitions(connections: Connections) -> Mapping[str, int]:
    """Raw topic → its number of partitions.

    Raises:
        Unavailable: no broker answers.
    """
    names = [topics.raw(e) for e in Entity]
    counted = Counter(topic for topic, _ in kafka.partitions(connections, *names))
    return {name: counted[name] for name in names}


def headers(letter: Letter) -> Headers:
    """Of the record that goes back: its own, and ``replay.of`` of the first original."""
    own = letter.own_headers
    if letter.replay_of is not None:
        return own
    return [*((name, value) for name, value in own if name != REPLAY_OF), (REPLAY_OF, str(letter.origin).encode())]


def plan(letters: Iterable[Letter], counts: Mapping[str, int]) -> Plan:
    """What a replay of these letters would do; ``counts``: :func:`partitions`."""
    would = Plan()
    for letter in letters:
        would.take(letter, counts)
    return would


def execute(connections: Connections, letters: Iterable[Letter], counts: Mapping[str, int]) -> Plan:
    """Publish every letter that can go back; returns when the brokers have them all.

    Raises:
        Unavailable: the brokers take nothing for 30 s. What they took stays; a second replay counts nothing twice.
        RetailStreamError: a record can never be delivered.
    """
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = kafka.producer(connections, on_delivery=delivered)
    did = Plan()
    for letter in letters:
        origin = letter.origin
        if not did.take(letter, counts) or origin is None:
            continue
        while True:
            try:
                producer.produce(
                    origin.topic,
                    letter.value,
                    letter.key,
                    partition=origin.partition,
                    timestamp=letter.timestamp,
                    headers=list(headers(letter)),
                )
                break
            except BufferError:
                _drain(connections, producer, enough=len(producer) - 1)
            except KafkaException as e:
                raise RetailStreamError(f"{origin} cannot be published: {e.args[0].str()}.") from e
        producer.poll(0)
    _drain(connections, producer, enough=0)
    if failed:
        raise RetailStreamError(f"{len(failed):,} records cannot be published: {failed[0].str()}.")
    return did


def _drain(connections: Connections, producer: Producer, enough: int) -> None:
    """Wait until at most ``enough`` records are undelivered."""
    patience = COMMAND_PATIENCE_S
    while (left := len(producer)) > enough:
        producer.flush(_WAIT_S) if enough == 0 else producer.poll(_WAIT_S)
        patience = COMMAND_PATIENCE_S if len(producer) < left else patience - _WAIT_S
        if patience <= 0:
            raise kafka.unavailable(connections)
