"""The aggregator's loop when partitions come and go, and when a server is away for long; Postgres is made of Python."""

import threading
import time
from collections.abc import Mapping
from functools import partial

import polars as pl
import pytest
from confluent_kafka import Producer

from retail_stream.errors import Unavailable
from retail_stream.kafka import group_member
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections
from retail_stream.warehouse.positions import Position
from services.aggregator import loop
from services.aggregator.batch import CLEAN, Applied
from services.aggregator.loop import Loop
from services.aggregator.ownership import OwnedPartition
from tests.harness.eventually import eventually
from tests.harness.scripted_consumer import Fetched, ScriptedConsumer, sets

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
        offsets = [o for r in records.values() for piece in r.pieces for o in piece.offset.tolist()]
        if self.away or self.fails_at in offsets:
            self.fails_at = None
            raise Unavailable("Postgres does not answer.")
        self.offsets += offsets
        for (_, p), read in records.items():
            self.positions[p] = read.end
        return Applied(self.claim(list(owned)), None, 0, {}, False)  # type: ignore[arg-type]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    monkeypatch.setattr(loop.metrics, "count", lambda _: None)
    return Stored(100)


class Drained:
    def drained(self, partitions: object) -> Mapping[int, int]:
        return {}


def the_loop(servers: str, aggregator: Stored, stop: threading.Event) -> Loop:
    connections = Connections(
        kafka_bootstrap_servers=servers,
        schema_registry_url="http://r",
        database_url="postgresql://x/y",
        kafka_session_timeout_s=INTERVAL_S,
    )
    join = partial(BlockingMembership[OwnedPartition], connections, "aggregator")
    return Loop(join, aggregator, Drained(), 15, stop)  # type: ignore[arg-type]


INTERVAL_S = 6.0


def test_records_that_were_read_before_a_rebalance_do_not_move_the_position_over_a_failed_batch(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of 100-199 fails, the next batch has begun with 200, and the group rebalances within it."""
    stop = threading.Event()
    at = {"next": 0, "seeks": 0}

    def read(c: ScriptedConsumer, most: int) -> Fetched | None:
        if len(c.seeks) > at["seeks"]:
            at.update(next=c.seeks[-1], seeks=len(c.seeks))
        first, at["next"] = at["next"], min(260, at["next"] + most)
        return sets(*range(first, at["next"]), key=(CLEAN, 0)) if first < 260 else None

    def go_on(c: ScriptedConsumer) -> Fetched | None:
        c.script.append(go_on)
        if len(stored.offsets) >= 160:
            stop.set()
        return read(c, 30)

    def rebalance(c: ScriptedConsumer) -> None:
        c.script = [go_on]
        c.rebalance()

    pause = [lambda _: None] * 10  # longer than a poll lingers
    script = [lambda c: read(c, 100), *pause, lambda c: read(c, 1), rebalance]
    consumer = ScriptedConsumer(*script, keys=[(CLEAN, 0)])
    monkeypatch.setattr(group_member, "GroupConsumer", consumer.connect)
    stored.fails_at = 100
    the_loop("k:1", stored, stop).run()
    assert stored.offsets == list(range(100, 260))
    assert stored.positions == {0: 260}


def test_an_outage_for_longer_than_a_session_is_waited_for(stored: Stored) -> None:
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0})
    servers = ",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=5).brokers.values())
    stop = threading.Event()

    def publish(first: int) -> None:
        for source in range(first, first + 5):
            cluster.produce(CLEAN, b"", partition=0, headers=[(SOURCE_OFFSET, as_big_endian(source))])
        cluster.flush(10)

    def has_stored(number: int) -> bool:
        assert thread.is_alive(), "the loop ended"
        return len(stored.offsets) >= number

    stored.positions = dict.fromkeys(range(4), 0)
    stored.away_for_s = 1.2 * INTERVAL_S
    running = the_loop(servers, stored, stop)
    thread = threading.Thread(target=running.run, daemon=True)
    publish(0)
    thread.start()
    eventually(lambda: has_stored(5), lambda: f"5 sales; stored are {stored.offsets}", 30)
    stored.away = True
    publish(5)
    eventually(lambda: has_stored(10), lambda: f"10 sales; stored are {stored.offsets}", 30)
    publish(10)
    eventually(lambda: has_stored(15), lambda: f"15 sales; stored are {stored.offsets}", 30)
    stop.set()
    thread.join(10)
    assert stored.offsets == list(range(15))
