"""The claim: only the generator that started last may write.

Each start writes a name of its own to `generator.state`, and only then takes over the transactional ids. A generator
that lost an id takes it back, and then checks whose name is last::

    first    take  open ─ writes ──────────── fenced, check: not mine, ends
    second               take  open ─ writes ...
"""

import uuid

from confluent_kafka import KafkaError, KafkaException, Message

from retail_stream.errors import RetailStreamError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.topics import Result
from services.generator.publishing.producers import REFUSED

_KEY = b"generator"
_ANSWER_S = 10.0


class Claim:
    """The right to write to these topics; the last generator that took it holds it. Any thread may check it."""

    def __init__(self, connections: Connections) -> None:
        """Opens nothing yet."""
        self._connections = connections
        self._name = b""

    def take(self) -> None:
        """Take the claim.

        Raises:
            RetailStreamError: Kafka refuses the record.
            Unavailable: the broker does not answer, or does not confirm the record.
        """
        # Each try has a new name: the record of a failed try may still arrive, and must not count as this one.
        name = uuid.uuid4().hex.encode()
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        try:
            # In no transaction: the earlier generator's may still be open.
            producer = clients.producer(self._connections, **{"message.timeout.ms": int(_ANSWER_S * 1000)})
            producer.produce(Result.STATE, name, _KEY, on_delivery=delivered)
            if producer.flush(_ANSWER_S + 1):
                raise clients.unavailable(self._connections)
            if failed:
                raise KafkaException(failed[0])
        except KafkaException as e:
            if e.args[0].code() in REFUSED:
                raise RetailStreamError(f"Kafka refuses a record on {Result.STATE}: {e.args[0].str()}.") from e
            raise clients.unavailable(self._connections) from e
        self._name = name

    def check(self) -> None:
        """Return if this generator holds the claim.

        Raises:
            RetailStreamError: another generator has taken it since, or the topic has lost the last name.
            Unavailable: the broker does not answer.
        """
        last = self._last_name()
        if last is None:
            raise RetailStreamError(
                f"The topic {Result.STATE} no longer names the generator that started last, so this one stops; "
                "start it again."
            )
        if last != self._name:
            raise RetailStreamError(
                "Another generator has started on these topics, which take one at a time, so this one stops."
            )

    def _last_name(self) -> bytes | None:
        ends = end_offsets(self._connections, topic_partitions(self._connections, Result.STATE))
        # Names are in no transaction, so open ones do not have to be waited for.
        ranges = {place: range(end) for place, end in ends.items()}
        batches = read(self._connections, ranges, **{"isolation.level": "read_uncommitted"})
        names = [m.value() for batch in batches for m in batch if m.key() == _KEY]
        return names[-1] if names else None
