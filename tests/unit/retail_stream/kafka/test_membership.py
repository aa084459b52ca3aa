"""Membership where a real broker cannot be provoked: commits that fail, rebalances within one poll, corrupt batches."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiokafka.errors import InconsistentGroupProtocolError
from structlog.testing import capture_logs

from retail_stream.kafka import group_member, group_reader
from retail_stream.kafka.membership import Membership
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import RecordSet
from retail_stream.settings import Connections
from tests.harness.scripted_consumer import KEY, Fetched, ScriptedConsumer, sets

OTHER = ("t", 1)
MOST = 2**20
CONNECTIONS = Connections(
    kafka_bootstrap_servers="k:1", schema_registry_url="http://r", database_url="postgresql://x/y"
)


@dataclass(frozen=True)
class Owned:
    next_offset: int


class Group:
    """A membership on a scripted consumer; the last of ``stored`` is the stored position of each partition."""

    def __init__(self, consumer: ScriptedConsumer, *stored: int) -> None:
        self.consumer, self.stored = consumer, list(stored)
        self.finished, self.finish_takes_s = 0, 0.0
        self.claim_fails: Exception | None = None
        self.membership: Membership[Owned] = Membership(CONNECTIONS, "g", ["t"], self.claim, self.finish)

    async def claim(self, keys: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, Owned]:
        if self.claim_fails is not None:
            raise self.claim_fails
        return {key: Owned(self.stored[-1]) for key in keys}

    async def finish(self) -> None:
        await asyncio.sleep(self.finish_takes_s)
        self.finished += 1

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def batch(self) -> dict[TopicPartitionKey, PartitionRecords]:
        """The next batch that is not empty."""
        async with asyncio.timeout(5):
            while not (found := await self.membership.poll(MOST, 0)):
                pass
        return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a story with a group that has joined."""
    monkeypatch.setattr(group_member, "_LOOK_S", 0.01)
    monkeypatch.setattr(group_member, "_SHORTEST_PAUSE_S", 0.01)
    monkeypatch.setattr(group_reader, "_SHORTEST_STOP_S", 0.05)

    def start(consumer: ScriptedConsumer, story: Callable[[Group], Awaitable[None]], *stored: int) -> None:
        monkeypatch.setattr(group_member, "GroupConsumer", consumer.connect)

        async def whole() -> None:
            group = Group(consumer, *stored)
            await group.membership.join()
            await group.until(lambda: group.membership.joined)
            await story(group)
            await group.membership.leave()

        asyncio.run(whole())

    return start


def test_a_commit_that_fails_is_repeated_a_second_later(run: Callable) -> None:
    async def story(group: Group) -> None:
        group.consumer.commit_fails = True
        group.membership.commit(10.0)
        await group.until(lambda: len(group.consumer.commits) == 1)
        group.membership.commit(10.9)
        assert group.membership._uncommitted() == {KEY: 5}
        group.membership.commit(11.0)
        await group.until(lambda: len(group.consumer.commits) == 2)
        group.membership.commit(12.0)
        assert group.consumer.commits == [{KEY: 5}] * 2, "once it is committed, it is not repeated"
        group.membership.advance({KEY: Owned(7), OTHER: Owned(1)})

    consumer = ScriptedConsumer()
    run(consumer, story, 5)
    assert consumer.commits == [{KEY: 5}, {KEY: 5}, {KEY: 7}], "the last one at the stop; OTHER is not ours"


def test_a_stop_without_a_broker_does_not_wait_for_a_commit(run: Callable) -> None:
    async def story(group: Group) -> None:
        group.consumer.is_member = group.consumer.has_coordinator = False

    consumer = ScriptedConsumer()
    run(consumer, story, 5)
    assert consumer.commits == []


def test_positions_are_committed_before_partitions_go(run: Callable) -> None:
    async def story(group: Group) -> None:
        group.membership.advance({KEY: Owned(7)})
        group.consumer.rebalance()
        await group.until(lambda: group.finished == 1 and group.membership.joined)
        assert group.consumer.commits == [{KEY: 7}]

    run(ScriptedConsumer(), story, 5)


def test_a_batch_that_does_not_follow_the_stored_position_is_read_again(run: Callable) -> None:
    async def story(group: Group) -> None:
        membership = group.membership
        first = await group.batch()
        assert (first[KEY].start, first[KEY].end, len(first[KEY])) == (100, 102, 2)
        assert membership.follows(first)
        second = await group.batch()
        assert second[KEY].start == 102
        assert not membership.follows(second), "100 and 101 are not stored"
        membership.advance({KEY: Owned(105)})  # transaction markers are behind 101
        assert membership.follows(second)
        assert not membership.follows({OTHER: second[KEY]}), "not our partition"
        membership.read_stored()
        assert group.consumer.seeks == [100, 105]

    run(ScriptedConsumer(lambda _: sets(100, 101), lambda _: sets(102)), story, 100)


def test_records_from_before_a_rebalance_within_one_poll_are_dropped_and_read_again(run: Callable) -> None:
    consumer = ScriptedConsumer(lambda _: sets(100), lambda c: c.rebalance())

    async def story(group: Group) -> None:
        group.stored.append(150)  # another worker had the partition meanwhile
        assert await group.membership.poll(MOST, 0.05) == {}
        assert group.finished == 1
        await group.until(lambda: group.membership.joined)
        consumer.script = [lambda _: sets(150)]
        assert (await group.batch())[KEY].start == 150
        assert consumer.seeks == [100, 150]

    run(consumer, story, 100)


def test_a_refusal_is_seen_without_a_poll_and_the_member_is_replaced(run: Callable) -> None:
    async def story(group: Group) -> None:
        group.consumer.refusal = InconsistentGroupProtocolError()
        await group.until(lambda: group.consumer.lives == 2 and group.membership.joined)
        assert group.finished == 1, "what was in flight was finished"

    run(ScriptedConsumer(), story, 5)


def test_a_partition_that_begins_anew_is_not_read_on_but_claimed_again(run: Callable) -> None:
    consumer = ScriptedConsumer(lambda _: sets(0, 1, 2), lambda _: sets(3, 200))

    async def story(group: Group) -> None:
        with capture_logs() as lines:
            assert await group.membership.poll(MOST, 0.02) == {}, "100 records of the new partition would be lost"
            await group.until(lambda: consumer.lives == 2 and group.membership.joined)
        (why,) = [line["why"] for line in lines if line["event"] == "waiting"]
        assert why.startswith("t/0 was read up to offset 100 and goes on at 0: its topic was deleted and made again, ")

    run(consumer, story, 100)


def test_a_member_that_hears_nothing_is_replaced_and_not_ready(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_member, "SILENT_S", 0.3)
    monkeypatch.setattr("retail_stream.kafka.membership.QUIET_S", 0.1)

    async def story(group: Group) -> None:
        await group.membership.poll(MOST, 0)
        assert group.membership.reading
        group.consumer.is_silent = True
        await group.until(lambda: not group.membership.reading)
        assert group.membership.joined
        await group.until(lambda: group.consumer.lives == 2)
        group.consumer.is_silent = False
        await group.until(lambda: group.membership.reading)

    run(ScriptedConsumer(), story, 5)


def test_a_corrupt_batch_stops_its_partition_and_no_other(run: Callable) -> None:
    corrupt = CorruptBatch("t", 0, 100, "its checksum is wrong")
    consumer = ScriptedConsumer(
        lambda _: {KEY: corrupt},
        lambda _: sets(100, 101, key=OTHER),
        lambda _: None,
        keys=(KEY, OTHER),
    )

    async def story(group: Group) -> None:
        assert list(await group.batch()) == [OTHER]
        assert group.membership.joined
        assert not group.membership.reading
        assert KEY not in consumer.wanted[-1]
        consumer.script = []
        while KEY not in consumer.wanted[-1]:
            await group.membership.poll(MOST, 0)
        consumer.script = [lambda _: sets(100)]
        assert list(await group.batch()) == [KEY]
        assert group.membership.reading

    run(consumer, story, 100)


def test_what_comes_from_behind_a_batch_that_cannot_be_read_is_not_read_before_it(run: Callable) -> None:
    whole = sets(100)[KEY]
    assert isinstance(whole, RecordSet)
    broken = replace(whole, batches=(replace(whole.batches[0], count=2),))  # found when it is decompressed
    consumer = ScriptedConsumer()
    may_end = asyncio.Event()

    async def behind() -> Fetched:
        await may_end.wait()
        return sets(101)

    async def story(group: Group) -> None:
        consumer.script = [lambda _: {KEY: broken}, lambda _: behind()]
        # The second fetch is under way when the first one's batch is read, and it ends after the retry has begun.
        assert await group.membership.poll(MOST, 0.02) == {}
        assert not group.membership.reading
        await asyncio.sleep(0.06)
        may_end.set()
        assert await group.membership.poll(MOST, 0) == {}
        consumer.script = [lambda _: sets(100, 101)]
        found = await group.batch()
        assert (found[KEY].start, found[KEY].end) == (100, 102)

    run(consumer, story, 100)


def test_what_a_claim_raises_the_next_poll_raises(run: Callable) -> None:
    async def story(group: Group) -> None:
        group.claim_fails = ValueError("no")
        group.consumer.rebalance()
        with pytest.raises(ValueError, match="no"):
            await group.batch()
        group.claim_fails = None

    run(ScriptedConsumer(), story, 5)


def test_a_paused_partition_keeps_what_was_fetched(run: Callable) -> None:
    consumer = ScriptedConsumer()
    may_end = asyncio.Event()

    async def later() -> Fetched:
        await may_end.wait()
        return sets(100, 101)

    async def story(group: Group) -> None:
        consumer.script = [lambda _: later()]
        assert await group.membership.poll(MOST, 0) == {}
        group.membership.pause([KEY])
        may_end.set()
        assert await group.membership.poll(MOST, 0) == {}, "it has come, and is not handed out"
        group.membership.resume([KEY])
        assert (await group.membership.poll(MOST, 0))[KEY].end == 102

    run(consumer, story, 100)


def test_a_poll_that_waits_for_others_hands_out_a_partition_as_soon_as_it_is_resumed(run: Callable) -> None:
    consumer = ScriptedConsumer(lambda _: sets(100, 101))

    async def story(group: Group) -> None:
        group.membership.pause([KEY])
        assert await group.membership.poll(MOST, 0) == {}, "it is read ahead"
        began = asyncio.get_running_loop().time()
        consumer.script = [lambda _: asyncio.sleep(60, {})]
        polling = asyncio.create_task(group.membership.poll(MOST, 0))
        await asyncio.sleep(0)
        group.membership.resume([KEY])
        assert (await polling)[KEY].end == 102
        assert asyncio.get_running_loop().time() - began < group_reader.POLL_S

    run(consumer, story, 100)


def test_a_batch_that_is_read_while_partitions_go_is_dropped(run: Callable) -> None:
    def go(c: ScriptedConsumer) -> Fetched:
        c.rebalance()
        return sets(100)

    async def story(group: Group) -> None:
        group.finish_takes_s = 0.05
        consumer.script = [go]
        assert await group.membership.poll(MOST, 0.02) == {}
        assert group.finished == 1

    consumer = ScriptedConsumer()
    run(consumer, story, 100)


def test_no_more_is_fetched_of_a_partition_than_its_share(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_reader, "PARTITION_BYTES", 150)
    monkeypatch.setattr(group_reader, "READ_AHEAD_BYTES", 150)
    consumer = ScriptedConsumer(*[lambda _, at=at: sets(at) for at in range(100, 110)])

    async def story(group: Group) -> None:
        await group.membership.poll(MOST, 0.05)
        assert 7 <= len(consumer.script) <= 8, "two or three sets of some 70 bytes"

    run(consumer, story, 100)
