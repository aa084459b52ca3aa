"""Publishes the outbox: every record once, as a `read_committed` reader sees it, whatever dies when.

One relay leads, by an advisory lock in Postgres. Its Kafka transactions all have one transactional id, so a new leader
fences an old one that does not know yet. Each record carries the header ``outbox.id`` = <warehouse>/<id>: a leader
looks up the last one that Kafka has, deletes the outbox up to it, and goes on behind it. So it does not matter whether
a crash came before or after a commit.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from confluent_kafka import KafkaException, Message, Producer
from sqlalchemy import Connection, Engine, text

from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.warehouse import postgres
from services.aggregator import metrics

OUTBOX_ID = "outbox.id"
_TOPICS = (Result.LATE, Result.WINDOWS, Result.WATERMARKS)
_LOCK = 7_265_746_170
_MOST = 5_000
_LOOK_S = 0.5
_log = structlog.get_logger(__name__)


class Relay:
    """``wake``: set it when something was put into the outbox; ``stop`` ends :meth:`run`."""

    def __init__(self, connections: Connections, engine: Engine, stop: threading.Event) -> None:
        """``engine``: one of its own, because a relay keeps a connection for as long as it leads."""
        self._connections = connections
        self._engine = engine
        self._stop = stop
        self.wake = threading.Event()

    def run(self) -> None:
        """Lead whenever nobody else does, until ``stop``."""
        said = False
        while not self._stop.is_set():
            try:
                with self._leading() as connection:
                    if connection is not None:
                        said = False
                        metrics.LEADS.set(1)
                        self._publish_all(connection)
            except Unavailable as e:
                if not said:
                    _log.warning("outbox waits", why=str(e))
                said = True
            metrics.LEADS.set(0)
            self._stop.wait(_LOOK_S)

    @contextmanager
    def _leading(self) -> Iterator[Connection | None]:
        """A connection that holds the lock, or None if another relay has it."""
        with postgres.outages(self._engine), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            leads = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar_one()
            try:
                yield connection if leads else None
            finally:
                # The lock belongs to the session: a pooled connection would keep it.
                connection.invalidate()

    def _publish_all(self, connection: Connection) -> None:
        mine = str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())
        producer = clients.producer(
            self._connections,
            **{
                "transactional.id": f"retail-stream.outbox.{mine}",
                "transaction.timeout.ms": 30_000,
                "message.timeout.ms": 20_000,
            },
        )
        try:
            producer.init_transactions(30.0)
            last = self._last_published(mine)
            connection.execute(text("DELETE FROM outbox WHERE id <= :last"), {"last": last})
            _log.info("outbox leads", last=last)
            while not self._stop.is_set():
                if not self._publish(connection, producer, mine):
                    self.wake.wait(_LOOK_S)
                    self.wake.clear()
        except KafkaException as e:
            # Whether the last transaction was committed is found out as by a new leader.
            raise Unavailable(f"{clients.unavailable(self._connections)} ({e.args[0].str()})") from e

    def _publish(self, connection: Connection, producer: Producer, mine: str) -> bool:
        rows = connection.execute(
            text("SELECT id, topic, partition, key, value, headers, timestamp_ms FROM outbox ORDER BY id LIMIT :most"),
            {"most": _MOST},
        ).all()
        if not rows:
            return False
        producer.begin_transaction()
        for number, topic, partition, key, value, headers, stamp in rows:
            producer.produce(
                topic,
                key=key,
                value=value,
                headers=[
                    *((name, None if v is None else bytes.fromhex(v)) for name, v in headers),
                    (OUTBOX_ID, f"{mine}/{number}".encode()),
                ],
                timestamp=stamp,
                **({} if partition is None else {"partition": partition}),
            )
            producer.poll(0)
        producer.commit_transaction(30.0)
        connection.execute(text("DELETE FROM outbox WHERE id <= :last"), {"last": rows[-1].id})
        metrics.PUBLISHED.inc(len(rows))
        return True

    def _last_published(self, mine: str) -> int:
        """The largest id of this warehouse's outbox among the committed records; 0 for none.

        In each partition they ascend, so that the last one of ours is the largest.
        """
        places = topic_partitions(self._connections, *_TOPICS)
        ends = end_offsets(self._connections, places)
        return max((self._last_in(place, ends[place], mine) for place in places), default=0)

    def _last_in(self, place: TopicPartitionKey, end: int, mine: str) -> int:
        """The largest id of ours in a partition: look ever further back, until one is found."""
        back, upto = 64, end
        while upto > 0:
            start = max(0, upto - back)
            batches = read(self._connections, {place: range(start, upto)})
            if found := max((number_of(m, mine) for batch in batches for m in batch), default=0):
                return found
            back, upto = back * 8, start
        return 0


def number_of(message: Message, mine: str) -> int:
    """Its number in the outbox of the warehouse ``mine``; 0 for a record of whoever else."""
    owner, _, number = (headers_by_name(message).get(OUTBOX_ID) or b"").partition(b"/")
    # As long as Postgres' largest bigint.
    return int(number) if owner == mine.encode() and number.isdigit() and len(number) <= 19 else 0
