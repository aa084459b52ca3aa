"""Kafka clients with the settings that the guarantees need."""

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.topics import PARTITIONER

_log = logging.getLogger("librdkafka")
#: Seconds to wait for one answer of a broker.
ANSWER_S = 10.0
#: Seconds, beyond a request's own timeout, for a client to report that it timed out.
GRACE_S = 5.0
_NO_ANSWER = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def _client(connections: Connections) -> dict[str, Any]:
    return {
        "bootstrap.servers": connections.kafka_bootstrap_servers,
        # librdkafka logs every failed reconnect; the services log an outage once, in a sentence of their own.
        "log_level": 2,
        # Its own lines go where all lines go; by default it writes to stderr itself.
        "logger": _log,
        "reconnect.backoff.max.ms": 2000,
        # A machine that is gone does not refuse connections; a client asks another broker only when its attempt ends.
        "socket.connection.setup.timeout.ms": 5000,
        "broker.address.family": "v4",
        **connections.librdkafka(),
    }


def consumer(connections: Connections, group: str, **config: Any) -> Consumer:
    """A consumer that reads committed records, from the beginning by default, and never commits on its own."""
    return Consumer(
        {
            **_client(connections),
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 32768,
            # The largest possible: what a batch may expand to, too. A producer may send 1 GB that zstd makes small.
            "receive.message.max.bytes": 2**31 - 1,
            "session.timeout.ms": int(connections.kafka_session_timeout_s * 1000),
            "heartbeat.interval.ms": int(connections.kafka_heartbeat_s * 1000),
            **config,
        }
    )


def producer(connections: Connections, **config: Any) -> Producer:
    """An idempotent producer (acks=all, order kept) that retries without end until its records are delivered."""
    return Producer(
        {
            **_client(connections),
            "enable.idempotence": True,
            "partitioner": PARTITIONER,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.timeout.ms": 0,
            # The largest possible: the topic limits the size of records, after compression (see topics.py).
            "message.max.bytes": 1_000_000_000,
            "queue.buffering.max.messages": 200000,
            **config,
        }
    )


def admin(connections: Connections) -> AdminClient:
    """An admin client; it connects when it is first used."""
    return AdminClient(_client(connections))


def unavailable(connections: Connections, error: BaseException | None = None) -> Unavailable:
    """The error for brokers that do not answer, or that answer with ``error``, in its words; raise it."""
    servers = connections.kafka_bootstrap_servers
    answer = error.args[0] if isinstance(error, KafkaException) else None
    if not isinstance(answer, KafkaError) or answer.code() in _NO_ANSWER:
        return Unavailable(f"Kafka at {servers} does not answer.")
    return Unavailable(f"Kafka at {servers} answers: {answer.str().rstrip('.')}.")


def not_stored(connections: Connections, topic: str | None, partition: int | None, error: KafkaError) -> Unavailable:
    """The error for a record that a broker does not store, in the broker's words; raise it."""
    answer = None if error.code() in _NO_ANSWER else error.str()
    return Unavailable(why_not_stored(connections.kafka_bootstrap_servers, topic, partition, answer))


def why_not_stored(servers: str, topic: str | None, partition: int | None, answer: str | None) -> str:
    """The sentence for records that are not stored. ``answer``: the broker's words, None if it does not answer."""
    why = "it does not answer" if answer is None else answer.rstrip(".")
    return f"Kafka at {servers} does not store records of {topic}/{partition}: {why}."
