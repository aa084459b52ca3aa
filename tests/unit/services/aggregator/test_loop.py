"""The aggregator's loop when partitions come and go, and when a server is away for long; Postgres is made of Python."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from retail_stream.errors import Unavailable
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian
from retail_stream.kafka.membership import PartitionRecords
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.warehouse.positions import Position
from services.aggregator import loop
from services.aggregator.batch import CLEAN, Applied
from services.aggregator.loop import Loop
from services.aggregator.ownership import OwnedPartition
from tests.harness.eventually import eventually

Batch = Mapping[TopicPartitionKey, PartitionRecords]


class Stored:
    """An aggregator whose warehouse is the position of each partition and the offsets of the sales before it."""

    def __init__(self, *positions: int) -> None:
        self.positions = dict(enumerate(positions))
        self.offsets: list[int] = []
        self.fails_at: int | None = None
        self.away = False
        self.away_for_s = 0.0

    def claim(self, partitions: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, OwnedPartition]:
        if self.away:
            time.sleep(self.away_for_s)
            self.away = False
        return {
            (t, p): OwnedPartition(Position(t, p, 1, self.positions[p], self.positions[p] - 1), (), ())
            for t, p in partitions
        }

    def rows(self, records: Batch) -> Mapping[int, pl.DataFrame]:
        return {}

    def store(self, owned: Mapping[TopicPartitionKey, OwnedPartition], records: Batch, *rest: object) -> Applied:
        if self.away or self.fails_at in [m.offset() for r in records.values() for m in r.messages]:
            self.fails_at = None
            raise Unavailable("Postgres does not answer.")
        for (_, p), read in records.items():
            self.offsets += [int(m.offset() or 0) for m in read.messages]
            self.positions[p] = read.end
        return Applied(self.claim(list(owned)), None, 0, {}, False)  # type: ignore[arg-type]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    monkeypatch.setattr(loop.metrics, "count", lambda _: None)
    return Stored(100)


class Drained:
    def drained(self, partitions: object) -> Mapping[int, int]:
        return {}


def the_loop(connect: Callable[..., Any], aggregator: Stored, stop: threading.Event) -> Loop:
    return Loop(connect, aggregator, Drained(), 15, stop)  # type: ignore[arg-type]


def sales(*offsets: int) -> list[Message]:
    return [Message(topic=CLEAN, partition=0, offset=o, key=b"1", value=b"") for o in offsets]


class Scripted:
    """A consumer whose polls are written down: each takes the callbacks and the offset to read from."""

    def __init__(self, *polls: Callable[["Scripted"], list[Message]]) -> None:
        self.polls: Iterator[Callable[[Scripted], list[Message]]] = iter(polls)
        self.at = -1
        self.here = [TopicPartition(CLEAN, 0)]

    def subscribe(self, _: object, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.come = lambda: on_assign(self, self.here)
        self.go = lambda: on_revoke(self, self.here)

    def consume(self, *_: object) -> list[Message]:
        return next(self.polls)(self)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.at = partitions[0].offset

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 1000

    def commit(self, **_: object) -> None: ...

    def close(self) -> None: ...


def test_records_that_were_read_before_a_rebalance_do_not_move_the_position_over_a_failed_batch(
    stored: Stored,
) -> None:
    """The transaction of 100-199 fails, the next batch has begun with 200, and the group rebalances within it."""
    stop = threading.Event()

    def assigned(c: Scripted) -> list[Message]:
        c.come()
        return []

    def rebalance(c: Scripted) -> list[Message]:
        c.go()
        c.come()
        return []

    def end(_: Scripted) -> list[Message]:
        stop.set()
        return []

    polls = [
        assigned,
        lambda _: sales(100),
        lambda _: sales(*range(101, 200)),
        lambda _: sales(200),
        rebalance,
        lambda c: sales(c.at),
        lambda c: sales(*range(c.at + 1, 260)),
        end,
    ]
    stored.fails_at = 100
    consumer = Scripted(*polls)
    the_loop(lambda **_: consumer, stored, stop).run()
    assert stored.offsets == list(range(100, 260))
    assert stored.positions == {0: 260}


INTERVAL_MS = 4000


def test_an_outage_for_longer_than_the_group_waits_for_a_poll_is_waited_for(stored: Stored) -> None:
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
    servers = ",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=5).brokers.values())
    config = {
        "bootstrap.servers": servers, "group.id": "aggregator", "auto.offset.reset": "earliest", "log_level": 0,
        "session.timeout.ms": INTERVAL_MS, "heartbeat.interval.ms": 300, "max.poll.interval.ms": INTERVAL_MS,
        "enable.auto.commit": False, "enable.partition.eof": True,
    }  # fmt: skip
    stop = threading.Event()

    def publish(first: int) -> None:
        for source in range(first, first + 5):
            cluster.produce(CLEAN, b"", partition=0, headers=[(SOURCE_OFFSET, as_big_endian(source))])
        cluster.flush(10)

    def has_taken(sales: int) -> bool:
        assert thread.is_alive(), "the loop ended"
        return len(stored.offsets) >= sales

    stored.positions = dict.fromkeys(range(4), 0)
    stored.away_for_s = 1.5 * INTERVAL_MS / 1000
    running = the_loop(lambda **callbacks: Consumer({**config, **callbacks}), stored, stop)
    thread = threading.Thread(target=running.run, daemon=True)
    publish(0)
    thread.start()
    eventually(lambda: has_taken(5), lambda: f"5 sales; taken are {stored.offsets}", 30)
    stored.away = True
    publish(5)
    eventually(lambda: has_taken(10), lambda: f"10 sales; taken are {stored.offsets}", 30)
    publish(10)
    eventually(lambda: has_taken(15), lambda: f"15 sales; taken are {stored.offsets}", 30)
    stop.set()
    thread.join(10)
    assert stored.offsets == list(range(15))
