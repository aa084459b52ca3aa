"""Kafka transactions: all records of one are published, once, or none of them is.

A transaction fails when the broker was away, or the program stopped, for longer than it may stay open. It is aborted,
and a new one sends the same records again in the same order. A transaction also fails when a second generator has taken
over the transactional ids; then this generator ends, and claim.py tells the two cases apart. A commit whose answer was
lost may have worked: before anything is sent again, the topic is asked for a record of it.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, latest_offsets, topic_partitions
from retail_stream.kafka.reading import record_at
from retail_stream.settings import Connections
from retail_stream.waiting import Outage
from services.generator.publishing.claim import Claim
from services.generator.publishing.producers import FENCED, REFUSED, TICK_S, transactional

#: How long publishing may go on after a stop.
FLUSH_S = 30.0
#: Roughly how long the markers of a transaction take.
_MARKER_S = 0.005
#: An admin client that saw a broker die may never get an answer, so a new one replaces it soon.
_ANSWER_S = 3.0
_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Transactions:
    """One producer's transactions, one after the other. Used by one thread at a time."""

    def __init__(
        self, connections: Connections, name: str, stop: threading.Event, outage: Outage, claim: Claim
    ) -> None:
        """``name``: the producer's name, the same in every run. Opens nothing yet."""
        self._connections = connections
        self._id = f"generator.{name}"
        self._stop = stop
        self._outage = outage
        self._claim = claim
        self._stopping_since: float | None = None
        self._producer: Producer | None = None
        #: the (topic, partition) and offset of a record of the current or last transaction, once it is delivered
        self._delivered: tuple[TopicPartitionKey, int] | None = None
        #: topic names, and the admin client and the partitions that were last used for them
        self._admin: tuple[tuple[str, ...], AdminClient, list[TopicPartitionKey]] | None = None

    def open(self) -> None:
        """Take over the producer's id.

        Raises:
            RetailStreamError: Kafka refuses transactions of the id.
            Unavailable: the broker does not answer.
        """
        self._producer = transactional(self._connections, self._id, self._outage)

    def poll(self) -> None:
        """Let the client report outages while nothing is sent."""
        assert self._producer is not None
        # The next transaction reports a lost producer.
        with contextlib.suppress(KafkaException):
            self._producer.poll(0)

    def run(self, write: Callable[[Producer], None]) -> None:
        """Send and commit the records of ``write``. A retry calls it again, perhaps with another producer.

        ``write`` passes at least one delivery report on to :meth:`delivered`.

        Raises:
            RetailStreamError: Kafka refuses a record, another generator started, or 30 s have passed since the stop.
        """
        while True:
            assert self._producer is not None
            self._delivered = None
            try:
                self._producer.begin_transaction()
                write(self._producer)
                self._commit(self._producer)
            except (KafkaException, SystemError) as e:
                # Where a fatal error meets a delivery report, the client raises a SystemError from the callback.
                cause = e.__cause__ if isinstance(e, SystemError) else e
                if not isinstance(cause, KafkaException):
                    raise
                aborted = self._recover(cause.args[0])
                if aborted or not self._wait_for(self._was_committed):
                    _log.info("sends again", producer=self._id, why=cause.args[0].str())
                    continue
            self._outage.ends()
            return

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Accept a delivery report of the open transaction."""
        if error is None:
            self._delivered = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)

    def flush(self, producer: Producer) -> None:
        """Wait until each record that was sent is delivered or has failed.

        Raises:
            RetailStreamError: 30 s have passed since the stop.
        """
        while producer.flush(TICK_S):
            self._check_stop()

    def wait_until_readable(self, *names: str, patience_s: float = math.inf) -> None:
        """Wait until readers of `read_committed` see what these topics hold, at most ``patience_s`` seconds.

        The markers of a transaction follow the answer to its commit. A broker that died may have left one open for good
        (a hanging transaction, KIP-664); the markers of our next transaction end it.

        Raises:
            RetailStreamError: 30 s have passed since the stop.
        """
        until = time.monotonic() + patience_s

        def wait() -> None:
            client, partitions = self._admin_for(names)
            ask = partial(latest_offsets, self._connections, client, partitions, within_s=_ANSWER_S)
            ends = ask()
            # No transaction of ours is open, so the offsets that `read_committed` sees reach the current log ends.
            while any(seen < ends[place] for place, seen in ask(committed=True).items()):
                self._check_stop()
                if time.monotonic() > until:
                    _log.warning("not readable yet", topics=" ".join(names), waited_s=round(patience_s))
                    return
                time.sleep(_MARKER_S)

        self._wait_for(wait)

    def _admin_for(self, names: tuple[str, ...]) -> tuple[AdminClient, list[TopicPartitionKey]]:
        if self._admin is None or self._admin[0] != names:
            partitions = topic_partitions(self._connections, *names)
            self._admin = names, clients.admin(self._connections), partitions
        return self._admin[1], self._admin[2]

    def _commit(self, producer: Producer) -> None:
        while True:
            try:
                producer.commit_transaction(TICK_S)
                return
            except KafkaException as e:
                if not e.args[0].retriable():
                    raise
                self._check_stop()

    def _recover(self, error: KafkaError) -> bool:
        """End the failed transaction so that a new one can begin; returns whether it was certainly aborted."""
        if error.code() in REFUSED:
            raise RetailStreamError(f"Kafka refuses a record of {self._id}: {error.str()}.")
        assert self._producer is not None
        while not (error.fatal() or error.code() in FENCED):
            try:
                self._producer.abort_transaction(TICK_S)
                return True
            except KafkaException as e:
                error = e.args[0] if not e.args[0].retriable() else error
                if e.args[0].code() == KafkaError._STATE:
                    return False
                self._check_stop()
        # The first check leaves the id to a generator that started later. One that starts between the first check and
        # `open` loses the id to this one; it takes the id back, and the second check ends this one.
        for step in (self._claim.check, self.open, self._claim.check):
            self._wait_for(step)
        return False

    def _was_committed(self) -> bool:
        """Whether the last transaction, which has ended, was committed."""
        if self._delivered is None:
            return False
        place, offset = self._delivered
        self.wait_until_readable(place[0])
        return record_at(self._connections, place, offset) is not None

    def _wait_for(self, action: Callable[[], T]) -> T:
        """Repeat an action while the broker is away; the producers' own errors log that."""
        while True:
            try:
                return action()
            except Unavailable:
                self._admin = None
                self._check_stop()
                self.poll()
                time.sleep(TICK_S / 2)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            self._stopping_since = self._stopping_since or time.monotonic()
            if time.monotonic() - self._stopping_since > FLUSH_S:
                raise RetailStreamError(
                    f"Kafka did not confirm the last records of {self._id} within {FLUSH_S:.0f} s of the stop; "
                    "they may be missing from the topics."
                )
