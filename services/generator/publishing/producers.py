"""Transactional producers, and what is said while the broker is away."""

import logging
import time

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.settings import Connections

#: For so long a transaction may be open, and so for so long a killed generator holds back who reads `read_committed`.
#: Kafka's default: a cluster that loses a broker, on busy machines, needs its time to have new leaders.
TIMEOUT_MS = 60_000
#: Calls of the client wait no longer than this, so that a stop is noticed.
TICK_S = 1.0
#: Small batches cost producer and broker more than this wait costs anyone.
_LINGER_MS = 10
_IN_FLIGHT = 200_000
_REMIND_EVERY_S = 30.0
_SETTLING_S = 10.0
#: What no second try would mend.
REFUSED = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_REQUIRED_ACKS, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION, KafkaError.TOPIC_EXCEPTION, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
})  # fmt: skip
#: What a producer hears that has lost its id, or its transaction.
FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_log = structlog.get_logger(__name__)
_unheard = logging.Logger("librdkafka")
_unheard.addHandler(logging.NullHandler())


class Outage:
    """Says once that the broker is away, and once that it is back, whichever producer notices."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._said_at: float | None = None
        self._over_at = -_SETTLING_S

    def noticed(self, error: KafkaError) -> None:
        """librdkafka's errors that concern no single record."""
        now = time.monotonic()
        # Each producer notices by itself when it is over; one that still reports the same outage says nothing new.
        away = error.code() == KafkaError._ALL_BROKERS_DOWN and now - self._over_at > _SETTLING_S
        if away and (self._said_at is None or now - self._said_at > _REMIND_EVERY_S):
            self._said_at = now
            _log.warning("waiting", why=str(clients.unavailable(self._connections)))

    def over(self) -> None:
        """Records were delivered."""
        if self._said_at is not None:
            self._said_at, self._over_at = None, time.monotonic()
            _log.info("answered", after="waiting")


def transactional(connections: Connections, transactional_id: str, outage: Outage) -> Producer:
    """A producer that has taken over the id; open transactions of whoever had it are aborted.

    Raises:
        Unavailable: the broker does not answer.
    """
    producer = clients.producer(
        connections,
        **{
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TIMEOUT_MS,
            "message.timeout.ms": TIMEOUT_MS,
            "queue.buffering.max.messages": _IN_FLIGHT,
            "linger.ms": _LINGER_MS,
            "error_cb": outage.noticed,
            # It would write of a lost producer to stderr at any log level; it is said in our words.
            "logger": _unheard,
        },
    )
    try:
        producer.init_transactions(TICK_S * 5)
    except KafkaException as e:
        if e.args[0].code() in REFUSED:
            raise RetailStreamError(f"Kafka refuses transactions of {transactional_id}: {e.args[0].str()}.") from e
        raise clients.unavailable(connections) from e
    return producer
