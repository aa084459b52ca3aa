"""The aggregator's loop when partitions come and go, and when a server is away for long; Postgres is made of Python."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.errors import Unavailable
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian
from retail_stream.topics import SCHEMAS
from retail_stream.warehouse.positions import Position
from services.aggregator import loop
from services.aggregator.ownership import Owned
from tests.harness.eventually import eventually

TOPIC = "sales.clean"
SALES = json.loads((SCHEMAS / "clean" / "sales.avsc").read_text())
SALE = {
    "transaction_id": 1, "store_id": 1, "event_time": 1_700_000_000_000_000, "customer_id": 1, "product_id": 1,
    "quantity": 1, "unit_price": 1.0, "total_amount": 1.0, "payment_method": "card", "discount_applied": 0.0,
    "tax_amount": 0.0,
}  # fmt: skip


class Stored:
    """The stored position of each partition, and the offsets of the sales before it."""

    def __init__(self, *positions: int) -> None:
        self.positions = {p: (offset, offset - 1) for p, offset in enumerate(positions)}
        self.taken: list[int] = []
        self.away = False
        self.claims = 0

    def claim(self, _: object, partitions: Sequence[int]) -> Mapping[int, Owned]:
        self.claims += 1
        return {p: Owned(Position(TOPIC, p, 1, *self.positions[p]), (), ()) for p in partitions}

    def transaction(self, desk: object, owned: Mapping[int, Owned], parts: Mapping[int, Any], *_: object) -> object:
        if self.away:
            raise Unavailable("Postgres does not answer.")
        for p, part in parts.items():
            self.taken += part.rows["offset"].to_list()
            self.positions[p] = part.end, max([self.positions[p][1], *part.rows["source_offset"]])
        return SimpleNamespace(owned=self.claim(desk, list(owned)))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    stored = Stored(100)
    monkeypatch.setattr(loop, "claim", stored.claim)
    monkeypatch.setattr(loop, "in_one_transaction", stored.transaction)
    monkeypatch.setattr(loop.metrics, "count", lambda _: None)
    return stored


def desk(consumer: Callable[[], Any], wait: Callable[[Callable[[], Any]], Any] = lambda action: action()) -> Any:
    return SimpleNamespace(
        topic=TOPIC,
        consumer=consumer,
        wait=wait,
        stop=threading.Event(),
        assigned=threading.Event(),
        writers=SimpleNamespace(get=lambda _: {1: RecordSchema(SALES)}),
        sale=RecordSchema(SALES),
        upstream=SimpleNamespace(drained=lambda _: {}),
        settings=SimpleNamespace(idle_timeout_s=15),
    )


def sales(*offsets: int) -> list[Message]:
    return [
        Message(
            topic=TOPIC, partition=0, offset=o, key=b"1", value=frame(1, encode(SALES, SALE)),
            headers=[(SOURCE_OFFSET, as_big_endian(o))], timestamp=(1, 1_700_000_000_000),
        )
        for o in offsets
    ]  # fmt: skip


class Scripted:
    """A consumer whose polls are written down: each takes the callbacks and the offset to read from."""

    def __init__(self, *polls: Callable[["Scripted"], list[Message]]) -> None:
        self.polls: Iterator[Callable[[Scripted], list[Message]]] = iter(polls)
        self.at = -1
        self.here = [TopicPartition(TOPIC, 0)]

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


def test_what_was_read_before_a_rebalance_does_not_move_the_position_over_what_was_not_stored(stored: Stored) -> None:
    """The transaction of 100-199 failed, the next batch has begun with 200, and the group rebalances within it."""

    def assigned(c: Scripted) -> list[Message]:
        c.come()
        return []

    def one_ahead(_: Scripted) -> list[Message]:
        worker.under_way = Future()
        worker.under_way.set_exception(Unavailable("Postgres does not answer."))
        return sales(200)

    def rebalance(c: Scripted) -> list[Message]:
        c.go()
        c.come()
        return []

    def end(_: Scripted) -> list[Message]:
        the_desk.stop.set()
        return []

    polls = (assigned, one_ahead, rebalance, lambda c: sales(c.at), lambda c: sales(*range(c.at + 1, 260)), end)
    consumer = Scripted(*polls)
    the_desk = desk(lambda: consumer)
    worker = loop.Worker(the_desk)
    worker.work()
    assert stored.taken == list(range(100, 260))
    assert stored.positions == {0: (260, 259)}


def test_a_batch_that_does_not_follow_what_is_stored_is_read_anew(stored: Stored) -> None:
    worker = loop.Worker(desk(lambda: Scripted()))
    worker.take([0])
    began, records = dict(worker.read_to), worker.read(sales(100, 101))
    assert worker.continues(began, records)
    began, records = dict(worker.read_to), worker.read(sales(102))
    assert not worker.continues(began, records), "100 and 101 are not stored"
    stored.positions = {0: (105, 101)}  # markers are behind 101
    worker.owned = stored.claim(None, [0])
    assert worker.continues(began, records)
    assert not worker.continues({}, records), "nobody knows what came before"


INTERVAL_MS = 4000


def test_an_outage_for_longer_than_the_group_waits_for_a_poll_is_waited_for(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
    servers = ",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=5).brokers.values())
    config = {
        "bootstrap.servers": servers, "group.id": "aggregator", "auto.offset.reset": "earliest", "log_level": 0,
        "session.timeout.ms": INTERVAL_MS, "heartbeat.interval.ms": 300, "max.poll.interval.ms": INTERVAL_MS,
        "enable.auto.commit": False, "enable.partition.eof": True,
    }  # fmt: skip

    def wait(action: Callable[[], Any]) -> Any:
        if stored.away:
            time.sleep(1.5 * INTERVAL_MS / 1000)
            stored.away = False
        return action()

    def publish(first: int) -> None:
        for source in range(first, first + 5):
            header = [(SOURCE_OFFSET, as_big_endian(source))]
            cluster.produce(TOPIC, frame(1, encode(SALES, SALE)), partition=0, headers=header)
        cluster.flush(10)

    def has_taken(sales: int) -> bool:
        assert thread.is_alive(), "the loop ended"
        return len(stored.taken) >= sales

    stored.positions = dict.fromkeys(range(4), (0, -1))
    the_desk = desk(lambda: Consumer(config), wait)
    thread = threading.Thread(target=loop.run, args=[the_desk], daemon=True)
    publish(0)
    thread.start()
    eventually(lambda: has_taken(5), lambda: f"5 sales; taken are {stored.taken}", 30)
    stored.away = True
    publish(5)
    eventually(lambda: has_taken(10), lambda: f"10 sales; taken are {stored.taken}", 30)
    publish(10)
    eventually(lambda: has_taken(15), lambda: f"15 sales; taken are {stored.taken}", 30)
    the_desk.stop.set()
    thread.join(10)
    assert stored.taken == list(range(15))
