"""The lease: only the generator that started last may write.

Each start appends a name of its own to a topic, and only then takes over the transactional ids. A generator that lost
an id takes it back, and then checks whose name is last::

    first    take  open ─ writes ──────────── fenced, check: not mine, ends
    second               take  open ─ writes ...

The name has a topic of its own, since nothing else in Kafka keeps a name forever and adds no lag, see decision 14.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import NewTopic

from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import record_at
from retail_stream.settings import Connections
from retail_stream.topics import Result

#: A topic with one partition; its last record counts.
TOPIC = "generator.lease"
_ANSWER_S = 10.0
#: Errors that no retry resolves.
_REFUSED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})


class Lease:
    """The right to write to these topics; the last generator that took it holds it. Any thread may check it."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        self._name = ""

    def take(self) -> None:
        """Take the lease.

        Raises:
            RetailStreamError: Kafka refuses the topic.
            Unavailable: the broker does not answer, or does not confirm the record.
        """
        # Each try has a new name: the record of a failed try may still arrive, and must not count as this one.
        name = uuid.uuid4().hex
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        with self._translated_errors():
            self._create_topic()
            producer = clients.producer(self._connections, **{"message.timeout.ms": int(_ANSWER_S * 1000)})
            producer.produce(TOPIC, name.encode(), b"generator", 0, delivered)
            if producer.flush(_ANSWER_S + 1):
                raise clients.unavailable(self._connections)
            if failed:
                raise KafkaException(failed[0])
        self._name = name

    def check(self) -> None:
        """Return if this generator holds the lease.

        Raises:
            RetailStreamError: another generator has taken it since, or the topic has lost the last name.
            Unavailable: the broker does not answer.
        """
        with self._translated_errors():
            last = self._last_name()
        if last is None:
            raise RetailStreamError(
                f"The topic {TOPIC} no longer names the generator that started last, so this one stops; start it again."
            )
        if last != self._name.encode():
            raise RetailStreamError(
                "Another generator has started on these topics, which take one at a time, so this one stops."
            )

    def _create_topic(self) -> None:
        client = clients.admin(self._connections)
        there = client.list_topics(timeout=_ANSWER_S).topics
        if TOPIC in there:
            return
        # As many replicas as the ledger has: the lease must survive the same losses.
        replicas = len(there[Result.FAULTS].partitions[0].replicas)
        topic = NewTopic(TOPIC, 1, replicas, config={"retention.ms": "-1"})
        try:
            client.create_topics([topic], request_timeout=_ANSWER_S)[TOPIC].result(2 * _ANSWER_S)
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _last_name(self) -> bytes | None:
        if not topic_partitions(self._connections, TOPIC):
            return None
        place = (TOPIC, 0)
        end = end_offsets(self._connections, [place])[place]
        if end == 0:
            return None
        message = record_at(self._connections, place, end - 1)
        return None if message is None else message.value()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as e:
            raise clients.unavailable(self._connections) from e
        except KafkaException as e:
            if e.args[0].code() in _REFUSED:
                raise RetailStreamError(f"Kafka refuses the topic {TOPIC}: {e.args[0].str()}.") from e
            raise clients.unavailable(self._connections) from e
