"""Publishes the outbox: a `read_committed` reader sees every record exactly once, across crashes at any point.

One relay of all replicas leads: the one with an advisory lock in Postgres. All leaders use one transactional id, so a
new leader fences the one before. Each record carries the header ``outbox.id`` = <warehouse>/<id>. A new leader looks up
the last id that Kafka has, deletes the outbox up to it, and goes on behind it. So a crash may come before or after the
commit of a transaction.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from sqlalchemy import Connection, Engine, text

from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.waiting import Outage
from retail_stream.warehouse import postgres
from services.aggregator import metrics

OUTBOX_ID = "outbox.id"
_TOPICS = (Result.LATE, Result.WINDOWS, Result.WATERMARKS)
#: The advisory lock that the leading relay holds.
LOCK = 7_265_746_170
_MOST = 5_000
_LOOK_S = 0.5
_log = structlog.get_logger(__name__)

# From the last id on: until the next VACUUM, the index still has what was deleted before it. Ids are in commit order.
_NEXT = text("""
    SELECT id, topic, partition, key, value, headers, timestamp_ms FROM outbox
    WHERE id > :last ORDER BY id LIMIT :most
""")


class Relay:
    """Publishes the outbox while it leads. Set ``wake`` after a transaction that wrote to the outbox."""

    def __init__(self, connections: Connections, engine: Engine, stop: threading.Event) -> None:
        """``engine``: not shared, because a relay keeps a connection for as long as it leads. ``stop``: ends run."""
        self._connections = connections
        self._engine = engine
        self._stop = stop
        self._outage = Outage()
        self.wake = threading.Event()

    def run(self) -> None:
        """Lead whenever no other relay does, until ``stop`` is set."""
        while not self._stop.is_set():
            try:
                with self._leading() as connection:
                    if connection is not None:
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
            last = self._last_published(warehouse)
            connection.execute(text("DELETE FROM outbox WHERE id <= :last"), {"last": last})
            if not self._outage.lasts:
                _log.info("outbox leads", last=last)
            while not self._stop.is_set():
                before, last = last, self._publish(connection, producer, warehouse, last)
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

    def _last_published(self, warehouse: str) -> int:
        """The largest outbox id of this warehouse among the committed records; 0 if there is none.

        Ids ascend within a partition, so the last one is the largest.
        """
        partitions = topic_partitions(self._connections, *_TOPICS)
        ends = end_offsets(self._connections, partitions)
        return max((self._last_in(tp, ends[tp], warehouse) for tp in partitions), default=0)

    def _last_in(self, tp: TopicPartitionKey, end: int, warehouse: str) -> int:
        """The largest outbox id in a partition; looks further and further back until it finds one."""
        back, upto = 64, end
        while upto > 0:
            start = max(0, upto - back)
            batches = read(self._connections, {tp: range(start, upto)})
            if largest := max((number_of(m, warehouse) for batch in batches for m in batch), default=0):
                return largest
            back, upto = back * 8, start
        return 0


def number_of(message: Message, warehouse: str) -> int:
    """The number in the record's ``outbox.id``, or 0 if the record is not from this warehouse."""
    owner, _, number = (headers_by_name(message).get(OUTBOX_ID) or b"").partition(b"/")
    # 19 digits: as many as the largest bigint of Postgres has.
    return int(number) if owner == warehouse.encode() and number.isdigit() and len(number) <= 19 else 0
