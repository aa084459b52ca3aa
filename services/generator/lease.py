"""Which generator may write: the last one that has started."""

import threading

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from retail_stream import kafka
from retail_stream.errors import RetailStreamError
from retail_stream.settings import Connections
from retail_stream.topics import Result
from services.generator.producers import TICK_S, Outage, transactional

#: The transactional id of the lease, and what those of the four producers begin with.
NAME = "generator"
#: What a producer hears that has lost its id, or its transaction.
FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class Lease:
    """The right to be the one generator of these topics: the last to ask has it.

    A check commits an offset of the group `generator.lease` in a transaction, which only the last one can.
    """

    def __init__(self, connections: Connections, outage: Outage) -> None:
        """Opens nothing yet."""
        self._connections = connections
        self._outage = outage
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def take(self) -> None:
        """Become the one generator.

        Raises:
            Unavailable: the broker does not answer.
        """
        self._producer = transactional(self._connections, NAME, self._outage)

    def check(self) -> None:
        """Return if there is no later one.

        Raises:
            RetailStreamError: another generator has taken over.
            Unavailable: the broker does not answer.
        """
        with self._lock:
            assert self._producer is not None
            member = kafka.consumer(self._connections, f"{NAME}.lease")
            try:
                self._producer.begin_transaction()
                place = TopicPartition(Result.FAULTS, 0, 0)
                self._producer.send_offsets_to_transaction([place], member.consumer_group_metadata(), TICK_S * 5)
                self._producer.commit_transaction(TICK_S * 5)
            except KafkaException as e:
                if e.args[0].fatal() or e.args[0].code() in FENCED:
                    raise RetailStreamError(
                        "Another generator has started on these topics; they have one at a time, so this one stops."
                    ) from e
                self._abort()
                raise kafka.unavailable(self._connections) from e
            finally:
                member.close()

    def _abort(self) -> None:
        assert self._producer is not None
        try:
            self._producer.abort_transaction(TICK_S * 5)
        except KafkaException as e:
            raise kafka.unavailable(self._connections) from e
