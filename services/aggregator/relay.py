"""Publishes the outbox: a `read_committed` reader sees every record exactly once, across crashes at any point.

One relay of all replicas leads: the one with an advisory lock in Postgres. All leaders use one transactional id, so a
new leader fences the one before. Each record carries the header ``outbox.id`` = <warehouse>/<id>. A new leader looks up
the last id that Kafka has, deletes the outbox up to it, and goes on behind it. So a crash may come before or after the
commit of a transaction. It looks back no further than to the warehouse's beginning, which its id tells.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from sqlalchemy import Connection, Engine, text

from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, first_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.waiting import Outage
from retail_stream.warehouse import ids, postgres
from services.aggregator import metrics

OUTBOX_ID = "outbox.id"
_TOPICS = (Result.LATE, Result.WINDOWS, Result.WATERMARKS)
#: Their records have the database's time; a late sale keeps that of its clean record.
_STAMPED = (Result.WINDOWS, Result.WATERMARKS)
#: A day: the clock of the database's next server is not behind by so much.
_SET_BACK_MS = 86_400_000
#: The advisory lock that the leading relay holds.
LOCK = 7_265_746_170
_MOST = 5_000
_LOOK_S = 0.5
_COUNT_EVERY_S = 5.0
#: Counting more would take long just when there are many.
_MOST_COUNTED = 100_000
_log = structlog.get_logger(__name__)

# From the last id on: until the next VACUUM, the index still has what was deleted before it. Ids are in commit order.
_NEXT = text("""
    SELECT id, topic, partition, key, value, headers, timestamp_ms FROM outbox
    WHERE id > :last ORDER BY id LIMIT :most
""")


_GIVEN = text("""
    SELECT coalesce(last_value, 0) FROM pg_sequences
    WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('outbox', 'id')
""")
_COUNT = text("SELECT count(*), min(id) FROM (SELECT id FROM outbox WHERE id > :last ORDER BY id LIMIT :most) waiting")


class Relay:
    """Publishes the outbox while it leads. Set ``wake`` after a transaction that wrote to the outbox."""

    def __init__(
        self, connections: Connections, engine: Engine, stop: threading.Event, *, is_emptied: bool = False
    ) -> None:
        """``engine``: not shared, because a relay keeps a connection for as long as it leads. ``stop``: ends run.

        ``is_emptied``: the warehouse is emptied next, so a restored one is not worth a question.
        """
        self._is_emptied = is_emptied
        self._connections = connections
        self._engine = engine
        self._stop = stop
        self._outage = Outage()
        # Of the oldest result that waits: its id, 0 for none, and since when; monotonic seconds.
        self._oldest, self._waits_since, self._counted_at = 0, 0.0, 0.0
        self.wake = threading.Event()

    def run(self) -> None:
        """Lead whenever no other relay does, until ``stop`` is set."""
        while not self._stop.is_set():
            try:
                with self._leading() as connection:
                    if connection is None:
                        metrics.OUTBOX.read = metrics.OLDEST.read = dict
                    else:
                        metrics.LEADS.set(1)
                        self._publish_all(connection)
            except Unavailable as e:
                self._outage.says(f"Results stay in the outbox. {e}")
            metrics.LEADS.set(0)
            self._stop.wait(_LOOK_S)

    @contextmanager
    def _leading(self) -> Iterator[Connection | None]:
        """A connection that holds the lock, or None while another relay has it."""
        with postgres.outages(self._engine), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            leads = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar_one()
            try:
                yield connection if leads else None
            finally:
                # The lock belongs to the session; a connection in the pool would keep it.
                connection.invalidate()

    def _publish_all(self, connection: Connection) -> None:
        warehouse = str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())
        self._count(connection, 0)
        producer = clients.producer(
            self._connections,
            **{
                "transactional.id": f"retail-stream.outbox.{warehouse}",
                "transaction.timeout.ms": 30_000,
                "message.timeout.ms": 20_000,
            },
        )
        try:
            producer.init_transactions(30.0)
            last, record = self._last_published(warehouse)
            if not self._is_emptied:
                self._require_its_own(connection, last, record)
            connection.execute(text("DELETE FROM outbox WHERE id <= :last"), {"last": last})
            if not self._outage.lasts:
                _log.info("outbox leads", last=last)
            while not self._stop.is_set():
                before, last = last, self._publish(connection, producer, warehouse, last)
                self._count(connection, last)
                if last == before:
                    self.wake.wait(_LOOK_S)
                    self.wake.clear()
        except KafkaException as e:
            # Whether the last transaction was committed is not known; the next leader looks it up.
            raise clients.unavailable(self._connections, e) from e

    def _publish(self, connection: Connection, producer: Producer, warehouse: str, last: int) -> int:
        """Publish the next rows behind the id ``last`` and delete them; returns the last id that is published now."""
        rows = connection.execute(_NEXT, {"last": last, "most": _MOST}).all()
        if not rows:
            self._outage.ends()
            return last
        refused: list[Unavailable] = []

        def seen(error: KafkaError | None, record: Message) -> None:
            if error is not None:
                refused.append(clients.not_stored(self._connections, record.topic(), record.partition(), error))

        producer.begin_transaction()
        for number, topic, partition, key, value, headers, stamp in rows:
            try:
                producer.produce(
                    topic,
                    key=key,
                    value=value,
                    headers=[
                        *((name, None if v is None else bytes.fromhex(v)) for name, v in headers),
                        (OUTBOX_ID, f"{warehouse}/{number}".encode()),
                    ],
                    timestamp=stamp,
                    on_delivery=seen,
                    **({} if partition is None else {"partition": partition}),
                )
            except KafkaException as e:
                # What the client can tell from what it knows of the topic already, it does not send.
                raise clients.not_stored(self._connections, topic, partition, KafkaError(e.args[0].code())) from e
            producer.poll(0)
        try:
            producer.commit_transaction(30.0)
        except KafkaException as e:
            # It says only how many records were not stored; the first of them says why.
            raise (refused[0] if refused else clients.unavailable(self._connections, e)) from e
        self._outage.ends()
        connection.execute(text("DELETE FROM outbox WHERE id <= :last"), {"last": rows[-1].id})
        metrics.PUBLISHED.inc(len(rows))
        return int(rows[-1].id)

    def _require_its_own(self, connection: Connection, last: int, record: Message | None) -> None:
        """Check that the last published id is that of the same result here: a restored warehouse gives it to another.

        ``record``: what was published under the id ``last``; None for nothing.
        """
        given = connection.execute(_GIVEN).scalar_one()
        row = connection.execute(text("SELECT topic, value FROM outbox WHERE id = :last"), {"last": last}).one_or_none()
        other = row is not None and record is not None and (row.topic, row.value) != (record.topic(), record.value())
        if given < last or other:
            raise Unavailable(
                f"The warehouse was restored from a backup: the topics have another result than it under the number "
                f"{last:,}. Run `retail-stream rebuild` (docs/failures.md)."
            )

    def _count(self, connection: Connection, last: int) -> None:
        """Show how many results wait behind the id ``last``, and for how long the oldest does; looks every 5 s."""
        now = time.monotonic()
        if now - self._counted_at < _COUNT_EVERY_S:
            return
        self._counted_at = now
        waiting, oldest = connection.execute(_COUNT, {"last": last, "most": _MOST_COUNTED}).one()
        if oldest != self._oldest:
            self._oldest, self._waits_since = oldest, now
        since = self._waits_since
        metrics.OUTBOX.read = lambda: {(): waiting}
        metrics.OLDEST.read = lambda: {(): time.monotonic() - since if waiting else 0.0}

    def _last_published(self, warehouse: str) -> tuple[int, Message | None]:
        """The largest outbox id of this warehouse among the committed records, and its record; 0 if there is none.

        Ids ascend within a partition, so the last one is the largest.
        """
        partitions = topic_partitions(self._connections, *_TOPICS)
        ends = end_offsets(self._connections, partitions)
        first = begins(self._connections, warehouse)
        found = [self._last_in(tp, range(first.get(tp, 0), ends[tp]), warehouse) for tp in partitions]
        return max(found, key=itemgetter(0), default=(0, None))

    def _last_in(self, tp: TopicPartitionKey, offsets: range, warehouse: str) -> tuple[int, Message | None]:
        """The same of a partition; looks further and further back until it finds one."""
        back, upto = 64, offsets.stop
        while upto > offsets.start:
            start = max(offsets.start, upto - back)
            batches = read(self._connections, {tp: range(start, upto)})
            numbered = ((number_of(m, warehouse), m) for batch in batches for m in batch)
            number, record = max(numbered, key=itemgetter(0), default=(0, None))
            if number:
                return number, record
            back, upto = back * 8, start
        return 0, None


def begins(connections: Connections, warehouse: str) -> dict[TopicPartitionKey, int]:
    """Offsets before which no record is of this warehouse, as it had no id yet; 0 of partitions that are absent.

    Raises:
        Unavailable: no broker answers.
    """
    given = ids.given_ms(warehouse)
    if given is None:
        return {}
    return first_offsets(connections, topic_partitions(connections, *_STAMPED), max(0, given - _SET_BACK_MS))


def number_of(message: Message, warehouse: str) -> int:
    """The number in the record's ``outbox.id``, or 0 if the record is not from this warehouse."""
    owner, _, number = (headers_by_name(message).get(OUTBOX_ID) or b"").partition(b"/")
    # 19 digits: as many as the largest bigint of Postgres has.
    return int(number) if owner == warehouse.encode() and number.isdigit() and len(number) <= 19 else 0
