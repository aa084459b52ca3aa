"""Membership on a real broker: commits, rebalances and fences. The store of positions is a dictionary with epochs."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.admin import NewPartitions, NewTopic

from retail_stream.errors import Fenced
from retail_stream.kafka import clients
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.kafka.group_consumer import GroupConsumer
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, topic_partitions
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections
from tests.harness.eventually import eventually

PARTITIONS = 4
PATIENCE_S = 60
MOST = 2**20
Batch = Mapping[TopicPartitionKey, PartitionRecords]


@dataclass(frozen=True)
class Owned:
    epoch: int
    next_offset: int


class Store:
    """Stored positions, and the values of the records before each."""

    def __init__(self) -> None:
        self.places: dict[TopicPartitionKey, Owned] = {}
        self.values: list[int] = []

    def claim(self, partitions: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, Owned]:
        for tp in partitions:
            place = self.places.get(tp, Owned(0, 0))
            self.places[tp] = replace(place, epoch=place.epoch + 1)
        return {tp: self.places[tp] for tp in partitions}

    def store(self, owned: Mapping[TopicPartitionKey, Owned], batch: Batch) -> Mapping[TopicPartitionKey, Owned]:
        if any(owned[tp].epoch != self.places[tp].epoch for tp in batch):
            raise Fenced("a partition has another owner")
        for tp, records in batch.items():
            assert records.start <= self.places[tp].next_offset, "records are missing before the batch"
            self.values += [int(p.value(i) or b"") for p in records.pieces for i in range(len(p))]
            self.places[tp] = replace(self.places[tp], next_offset=records.end)
        return {tp: self.places[tp] for tp in batch}


@pytest.fixture
def topic(initialised: Connections) -> Iterator[str]:
    """A topic of the test's own; its name is that of the group, too."""
    admin, name = clients.admin(initialised), f"membership-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, PARTITIONS)])[name].result(30)
    eventually(lambda: len(topic_partitions(initialised, name)) == PARTITIONS, "the topic is there", PATIENCE_S)
    yield name
    admin.delete_topics([name])[name].result(30)


@pytest.fixture
def join(initialised: Connections, topic: str) -> Iterator[Callable[..., BlockingMembership[Owned]]]:
    """Make members of the group that have joined it; they leave at the end."""
    members: list[BlockingMembership[Owned]] = []

    def joined(store: Store, before_rebalance: Callable[[], None] = lambda: None) -> BlockingMembership[Owned]:
        # A short session is one with frequent heartbeats, by which members learn of a rebalance.
        connections = initialised.model_copy(update={"kafka_session_timeout_s": 2.0})
        members.append(BlockingMembership(connections, topic, [topic], store.claim, before_rebalance))
        members[-1].join()
        return members[-1]

    yield joined
    for member in members:
        member.leave()


def publish(connections: Connections, topic: str, values: range) -> None:
    producer = clients.producer(connections)
    for value in values:
        producer.produce(topic, str(value), partition=value % PARTITIONS)
    assert producer.flush(30) == 0


def work(
    store: Store, *members: BlockingMembership[Owned], until: Callable[[], bool], within_s: float = PATIENCE_S
) -> None:
    """Let members read and store in turns, until a condition holds."""
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, "not in time"
        for member in members:
            if batch := member.poll(MOST, 0.01):
                member.advance(store.store(member.owned, batch))


def test_a_stop_commits_the_last_position(initialised: Connections, topic: str, join: Callable) -> None:
    store = Store()
    member = join(store)
    publish(initialised, topic, range(20))
    work(store, member, until=lambda: len(store.values) == 20)
    member.leave()
    assert not member.joined
    committed = committed_offsets(initialised, topic, topic_partitions(initialised, topic))
    assert committed == {(topic, p): 5 for p in range(PARTITIONS)}


def test_commits_follow_the_positions_without_a_stop(initialised: Connections, topic: str, join: Callable) -> None:
    store = Store()
    member = join(store)
    publish(initialised, topic, range(20))
    work(store, member, until=lambda: len(store.values) == 20)
    member.commit(time.monotonic())
    partitions = topic_partitions(initialised, topic)
    work(store, member, until=lambda: set(committed_offsets(initialised, topic, partitions).values()) == {5})
    assert member.lag() == {(topic, str(p)): 0 for p in range(PARTITIONS)}


@pytest.mark.long
def test_partitions_that_are_added_to_a_topic_are_read_without_a_restart(
    initialised: Connections, topic: str, join: Callable
) -> None:
    store = Store()
    member = join(store)
    publish(initialised, topic, range(20))
    work(store, member, until=lambda: len(store.values) == 20)
    admin = clients.admin(initialised)
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(30)
    eventually(lambda: len(topic_partitions(initialised, topic)) == PARTITIONS + 1, "the partition is there")
    producer = clients.producer(initialised)
    producer.produce(topic, "20", partition=PARTITIONS)
    assert producer.flush(30) == 0
    # Less than the clients' five minutes, after which any of them would look.
    work(store, member, until=lambda: len(store.values) == 21, within_s=120)
    assert sorted(store.values) == list(range(21))


def test_a_rebalance_in_the_middle_of_a_batch_loses_nothing_and_repeats_nothing(
    initialised: Connections, topic: str, join: Callable
) -> None:
    store = Store()
    in_flight: list[Batch] = []

    def finish() -> None:
        """Store the batch that was read one ahead, as the aggregator does before its partitions go."""
        for batch in in_flight:
            assert first.follows(batch)
            first.advance(store.store(first.owned, batch))
        in_flight.clear()

    first = join(store, finish)
    publish(initialised, topic, range(40))
    work(store, first, until=lambda: len(store.values) == 40)
    second = join(store)
    deadline = time.monotonic() + PATIENCE_S
    published = 40
    while len(store.values) < published or not second.joined or len(first.owned) == PARTITIONS:
        assert time.monotonic() < deadline, (published, len(store.values))
        # Records come during all of the rebalance.
        if not second.joined:
            publish(initialised, topic, range(published, published + 40))
            published += 40
        # The batch before is stored while this one is read; a rebalance may come within the poll.
        batch = first.poll(1, 0.01)
        finish()
        if batch:
            in_flight.append(batch)
        if more := second.poll(1, 0.01):
            second.advance(store.store(second.owned, more))
    assert len(second.owned) == PARTITIONS // 2
    assert sorted(store.values) == list(range(published))


def test_a_fenced_member_joins_again_and_goes_on_at_the_stored_positions(
    initialised: Connections, topic: str, join: Callable
) -> None:
    store = Store()
    member = join(store)
    publish(initialised, topic, range(100))
    work(store, member, until=lambda: len(store.values) == 100)
    store.claim(list(store.places))  # as another worker does
    publish(initialised, topic, range(100, 200))
    with pytest.raises(Fenced):
        work(store, member, until=lambda: len(store.values) == 200)
    member.rejoin()
    assert not member.joined
    assert member.owned == {}
    work(store, member, until=lambda: len(store.values) == 200)
    assert sorted(store.values) == list(range(200))
    assert {place.epoch for place in store.places.values()} == {3}


def test_a_claim_again_reads_on_at_positions_that_moved_meanwhile(
    initialised: Connections, topic: str, join: Callable
) -> None:
    store = Store()
    publish(initialised, topic, range(40))
    member = join(store)
    work(store, member, until=lambda: len(store.values) == 40)
    store.places[topic, 0] = replace(store.places[topic, 0], next_offset=4)
    member.reclaim()
    work(store, member, until=lambda: len(store.values) == 46)
    assert sorted(store.values[40:]) == [16, 20, 24, 28, 32, 36]


def test_a_member_stops_while_a_fetch_that_failed_waits_for_its_retry(initialised: Connections, topic: str) -> None:
    places = [(topic, number) for number in range(PARTITIONS)]

    async def nothing() -> None: ...

    async def stop_while_it_waits() -> bool:
        assigned = asyncio.Event()
        consumer = GroupConsumer(initialised, topic, nothing, lambda _: assigned.set())
        await consumer.start([topic])
        await asyncio.wait_for(assigned.wait(), PATIENCE_S)
        for place in places:
            consumer.seek(place, 0)
            consumer.resume(place)
        refused = asyncio.Event()

        async def refuse(*_: object, **__: object) -> None:
            refused.set()
            raise KafkaConnectionError

        # As if the broker had died: aiokafka sends the next fetch a fifth of a second later.
        consumer._consumer._client.send = refuse
        await asyncio.wait_for(refused.wait(), PATIENCE_S)
        await consumer.stop()
        return True

    assert asyncio.run(stop_while_it_waits())
