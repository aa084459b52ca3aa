"""The edge to Kafka's transactions: what is written in one is on the topics whole or not at all, and once.

A transaction that fails (a broker away for longer than it may stay open, a program stopped for as long) is aborted, and
the same records are sent again in a new one, in the same order. That may also be because a second generator has
taken over our transactional ids; then this one has to end, and lease.py tells the two apart. A commit whose answer got
lost may have worked: then the topic is asked whether a record of it is there, before any is sent again.
"""

import contextlib
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
from services.generator.publishing.producers import FENCED, REFUSED, TICK_S, Outage, transactional
from services.generator.state.lease import Lease

#: How long delivery may take after a stop.
FLUSH_S = 30.0
#: How long a transaction's markers take, about.
_MARKER_S = 0.005
#: A client that saw a broker die may never hear: better a new one soon.
_ANSWER_S = 3.0
_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Transactions:
    """One producer's transactions, one after the other. Used by one thread at a time."""

    def __init__(
        self, connections: Connections, name: str, stop: threading.Event, outage: Outage, lease: Lease
    ) -> None:
        """``name``: of the producer, the same in every run. Opens nothing yet."""
        self._connections = connections
        self._id = f"generator.{name}"
        self._stop = stop
        self._outage = outage
        self._lease = lease
        self._stopping_since: float | None = None
        self._producer: Producer | None = None
        #: where a record of the last transaction is, once it has its place: (topic, partition), offset
        self._witness: tuple[TopicPartitionKey, int] | None = None
        #: the topics last asked for, by which client, and their partitions
        self._asked: tuple[tuple[str, ...], AdminClient, list[TopicPartitionKey]] | None = None

    def open(self) -> None:
        """Take over the producer's id.

        Raises:
            Unavailable: the broker does not answer.
        """
        self._producer = transactional(self._connections, self._id, self._outage)

    def poll(self) -> None:
        """Hear of outages while nothing is sent."""
        assert self._producer is not None
        # That the producer is lost, the next transaction says.
        with contextlib.suppress(KafkaException):
            self._producer.poll(0)

    def run(self, write: Callable[[Producer], None]) -> None:
        """Commit what ``write`` sends; it is called again, with another producer perhaps, until that has worked.

        ``write`` passes at least one delivery report on to :meth:`witness`.

        Raises:
            RetailStreamError: a record was refused, another generator has started, or 30 s have passed since the stop.
        """
        while True:
            assert self._producer is not None
            self._witness = None
            try:
                self._producer.begin_transaction()
                write(self._producer)
                self._commit(self._producer)
            except (KafkaException, SystemError) as e:
                # Where a fatal error meets a delivery report, the client has the one raise in the other's callback.
                cause = e.__cause__ if isinstance(e, SystemError) else e
                if not isinstance(cause, KafkaException):
                    raise
                aborted = self._recover(cause.args[0])
                if aborted or not self._wait_for(self._is_there):
                    _log.info("sends again", producer=self._id, why=cause.args[0].str())
                    continue
            self._outage.over()
            return

    def witness(self, error: KafkaError | None, message: Message) -> None:
        """A delivery report of the transaction that is open."""
        if error is None:
            self._witness = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)

    def delivered(self, producer: Producer) -> None:
        """Wait until each record that was sent has its place on the topic, or has failed.

        Raises:
            RetailStreamError: 30 s have passed since the stop.
        """
        while producer.flush(TICK_S):
            self._check_stop()

    def readable(self, *names: str) -> None:
        """Wait until everybody can read what was committed to these topics: the markers come after the commit's answer.

        Raises:
            RetailStreamError: 30 s have passed since the stop.
        """

        def wait() -> None:
            client, places = self._asking(names)
            ask = partial(latest_offsets, self._connections, client, places, within_s=_ANSWER_S)
            ends = ask()
            # No transaction of ours is open, so what `read_committed` sees gets to where the log ends now.
            while any(seen < ends[place] for place, seen in ask(committed=True).items()):
                self._check_stop()
                time.sleep(_MARKER_S)

        self._wait_for(wait)

    def _asking(self, names: tuple[str, ...]) -> tuple[AdminClient, list[TopicPartitionKey]]:
        if self._asked is None or self._asked[0] != names:
            places = topic_partitions(self._connections, *names)
            self._asked = names, clients.admin(self._connections), places
        return self._asked[1], self._asked[2]

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
        """After this a new transaction can begin and the old one has ended; whether it was aborted for certain."""
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
        # A later generator is left in peace; one that came meanwhile has been robbed of the id, and takes it back.
        for step in (self._lease.check, self.open, self._lease.check):
            self._wait_for(step)
        return False

    def _is_there(self) -> bool:
        """Whether the last transaction, which has ended, was committed after all."""
        if self._witness is None:
            return False
        place, offset = self._witness
        self.readable(place[0])
        return record_at(self._connections, place, offset) is not None

    def _wait_for(self, action: Callable[[], T]) -> T:
        """Try again while the broker is away, which the producers' own errors say."""
        while True:
            try:
                return action()
            except Unavailable:
                self._asked = None
                self._check_stop()
                self.poll()
                time.sleep(TICK_S / 2)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            self._stopping_since = self._stopping_since or time.monotonic()
            if time.monotonic() - self._stopping_since > FLUSH_S:
                raise RetailStreamError(f"Kafka took the last records of {self._id} not within {FLUSH_S:.0f} s.")
