"""Empties the topics that are derived from the raw ones, so that the cleaner derives them again from the beginning.

The topics stay, with their partitions and settings, and their offsets go on. For a rebuild after a raw or a clean topic
was deleted and made again: the clean topic then holds records of a raw topic that is gone, or lacks some of the present
one.
"""

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result

#: Rises name offsets of `sales.clean`. Results of windows and late sales name their warehouse, and stay.
DERIVED = (*(name for e in Entity for name in (topics.clean(e), topics.dlq(e))), Result.WATERMARKS)
_ANSWER_S = 30.0


def empty(connections: Connections) -> None:
    """Delete the cleaner's group with its offsets, then all records of `DERIVED`. May be repeated.

    Raises:
        RetailStreamError: a cleaner runs; nothing was changed.
        Unavailable: no broker answers.
    """
    client = clients.admin(connections)
    try:
        client.delete_consumer_groups([Group.CLEANER.value], request_timeout=_ANSWER_S)[Group.CLEANER.value].result()
    except KafkaException as e:
        if e.args[0].code() == KafkaError.NON_EMPTY_GROUP:
            raise RetailStreamError(
                "A cleaner runs; stop it, run this command again, and start it. If it was killed, its group misses it "
                "after KAFKA_SESSION_TIMEOUT_S."
            ) from e
        if e.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise clients.unavailable(connections, e) from e
    _delete_records(connections, client, DERIVED)


def _delete_records(connections: Connections, client: AdminClient, names: Iterable[str]) -> None:
    ends = end_offsets(connections, topic_partitions(connections, *names))
    full = [TopicPartition(*place, end) for place, end in ends.items() if end]
    try:
        for deleted in client.delete_records(full, request_timeout=_ANSWER_S).values() if full else ():
            deleted.result()
    except KafkaException as e:
        raise clients.unavailable(connections, e) from e
