"""Which generator may write: the last one that has started.

Each start leaves a name of its own with an offset of the group `generator.lease`, as Kafka's offsets have room for a
text, before it takes over the transactional ids. A generator that lost an id takes it back, and then looks whose name
is there::

    first    take  open ─ writes ──────────── fenced, check: not mine, ends
    second               take  open ─ writes ...

Not a fifth transaction that only the last one can commit: librdkafka's `send_offsets_to_transaction` was seen to wait
without end, whatever its timeout, when the broker had been killed.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from retail_stream import kafka
from retail_stream.errors import RetailStreamError
from retail_stream.settings import Connections
from retail_stream.topics import Result

_ANSWER_S = 10.0


class Lease:
    """The right to be the one generator of these topics: the last to take it has it. Any thread may check."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        self._name = uuid.uuid4().hex

    def take(self) -> None:
        """Become the one generator.

        Raises:
            Unavailable: the broker does not answer.
        """
        with self._asking() as client:
            client.commit(offsets=[TopicPartition(Result.FAULTS, 0, 0, self._name)], asynchronous=False)

    def check(self) -> None:
        """Return if there is no later one.

        Raises:
            RetailStreamError: another generator has started.
            Unavailable: the broker does not answer.
        """
        with self._asking() as client:
            (found,) = client.committed([TopicPartition(Result.FAULTS, 0)], timeout=_ANSWER_S)
        # Kafka forgets an offset that nobody renewed for a week; whoever starts leaves a new one.
        if found.metadata and found.metadata != self._name:
            raise RetailStreamError(
                "Another generator has started on these topics; they have one at a time, so this one stops."
            )

    @contextmanager
    def _asking(self) -> Iterator[Consumer]:
        # A new client each time: one that saw a broker die may go on asking the old one.
        client = kafka.consumer(self._connections, "generator.lease")
        try:
            yield client
        except KafkaException as e:
            if e.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise RetailStreamError(f"Kafka refuses the group generator.lease: {e.args[0].str()}.") from e
            raise kafka.unavailable(self._connections) from e
        finally:
            client.close()
