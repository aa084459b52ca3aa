"""Which generator may write: the last one that has started.

Each start leaves a name of its own as the last record of a topic, before it takes over the transactional ids. A
generator that lost an id takes it back, and then looks whose name is there::

    first    take  open ─ writes ──────────── fenced, check: not mine, ends
    second               take  open ─ writes ...

A topic of its own, since nothing else in Kafka keeps a name for good and shows nobody a lag, see decision 14.
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

#: One partition, of which the last record counts.
TOPIC = "generator.lease"
_ANSWER_S = 10.0
#: What no second try would mend.
_REFUSED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})


class Lease:
    """The right to be the one generator of these topics: the last to take it has it. Any thread may check."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        self._name = ""

    def take(self) -> None:
        """Become the one generator.

        Raises:
            RetailStreamError: Kafka refuses the topic.
            Unavailable: the broker does not answer, or may not have the name.
        """
        # A name of its own for each try: one that arrives after all, when nobody waits for it any more, is nobody's.
        name = uuid.uuid4().hex
        failed: list[KafkaError] = []

        def told(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        with self._answers():
            self._create()
            producer = clients.producer(self._connections, **{"message.timeout.ms": int(_ANSWER_S * 1000)})
            producer.produce(TOPIC, name.encode(), b"generator", 0, told)
            if producer.flush(_ANSWER_S + 1):
                raise clients.unavailable(self._connections)
            if failed:
                raise KafkaException(failed[0])
        self._name = name

    def check(self) -> None:
        """Return if this one has taken it and none has since.

        Raises:
            RetailStreamError: another generator has started, or nobody can know.
            Unavailable: the broker does not answer.
        """
        with self._answers():
            found = self._last()
        if found is None:
            raise RetailStreamError(
                f"The topic {TOPIC} has lost who started last, so this generator stops; it can be started again."
            )
        if found != self._name.encode():
            raise RetailStreamError(
                "Another generator has started on these topics; they have one at a time, so this one stops."
            )

    def _create(self) -> None:
        client = clients.admin(self._connections)
        there = client.list_topics(timeout=_ANSWER_S).topics
        if TOPIC in there:
            return
        # As safe as the ledger is.
        replicas = len(there[Result.FAULTS].partitions[0].replicas)
        topic = NewTopic(TOPIC, 1, replicas, config={"retention.ms": "-1"})
        try:
            client.create_topics([topic], request_timeout=_ANSWER_S)[TOPIC].result(2 * _ANSWER_S)
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _last(self) -> bytes | None:
        if not topic_partitions(self._connections, TOPIC):
            return None
        place = (TOPIC, 0)
        end = end_offsets(self._connections, [place])[place]
        if end == 0:
            return None
        message = record_at(self._connections, place, end - 1)
        return None if message is None else message.value()

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as e:
            raise clients.unavailable(self._connections) from e
        except KafkaException as e:
            if e.args[0].code() in _REFUSED:
                raise RetailStreamError(f"Kafka refuses the topic {TOPIC}: {e.args[0].str()}.") from e
            raise clients.unavailable(self._connections) from e
