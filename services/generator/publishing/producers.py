"""Transactional producers."""

import logging

from confluent_kafka import KafkaError, KafkaException, Producer

from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.waiting import Outage

#: How long a transaction may stay open. A killed generator delays readers of `read_committed` for as long.
#: Kafka's default: a busy cluster that lost a broker needs this time to elect new leaders.
TIMEOUT_MS = 60_000
#: Calls of the client wait no longer than this, so that a stop is noticed.
TICK_S = 1.0
#: Each producer notices the end of an outage by itself; the others may still report the same one for so long.
SETTLING_S = 10.0
#: Small batches cost producer and broker more than this delay costs.
_LINGER_MS = 10
_IN_FLIGHT = 200_000
#: Errors that no retry resolves.
REFUSED = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_REQUIRED_ACKS, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION, KafkaError.TOPIC_EXCEPTION, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
})  # fmt: skip
#: Errors of a producer that has lost its transactional id or its transaction.
FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_silent = logging.Logger("librdkafka")
_silent.addHandler(logging.NullHandler())


def transactional(connections: Connections, transactional_id: str, outage: Outage) -> Producer:
    """A producer that has taken over the id. Open transactions of the id's earlier producer are aborted.

    ``outage``: says that no broker answers.

    Raises:
        RetailStreamError: Kafka refuses transactions of the id.
        Unavailable: the broker does not answer.
    """

    def noticed(error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            outage.says(str(clients.unavailable(connections)))

    producer = clients.producer(
        connections,
        **{
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TIMEOUT_MS,
            "message.timeout.ms": TIMEOUT_MS,
            "queue.buffering.max.messages": _IN_FLIGHT,
            "linger.ms": _LINGER_MS,
            "error_cb": noticed,
            # librdkafka writes about a fenced producer to stderr at any log level; we log it ourselves.
            "logger": _silent,
        },
    )
    try:
        producer.init_transactions(TICK_S * 5)
    except KafkaException as e:
        if e.args[0].code() in REFUSED:
            raise RetailStreamError(f"Kafka refuses transactions of {transactional_id}: {e.args[0].str()}.") from e
        raise clients.unavailable(connections, e) from e
    return producer
