"""Membership where a real broker cannot be provoked: commits that fail, rebalances within one poll."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, Message, TopicPartition

from retail_stream.kafka.membership import Membership, PartitionRecords
from retail_stream.kafka.offsets import TopicPartitionKey

KEY = ("t", 0)


@dataclass(frozen=True)
class Owned:
    next_offset: int


class Scripted:
    """A consumer whose polls are written down; it notes commits and assignments."""

    def __init__(self) -> None:
        self.polls: list[Callable[[], list[Message]]] = []
        self.commits: list[tuple[int, bool]] = []
        self.assigned: list[int] = []

    def connect(self, error_cb: Callable[..., None], on_commit: Callable[..., None]) -> "Scripted":
        self.error_cb, self.on_commit = error_cb, on_commit
        return self

    def subscribe(self, _: object, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.come = lambda: on_assign(self, [TopicPartition(*KEY)])
        self.go = lambda: on_revoke(self, [TopicPartition(*KEY)])

    def consume(self, *_: object) -> list[Message]:
        return self.polls.pop(0)() if self.polls else []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += [tp.offset for tp in partitions]

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 1000

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.commits += [(tp.offset, asynchronous) for tp in offsets]

    def close(self) -> None: ...


def member(stored: list[int]) -> tuple[Scripted, Membership[Owned]]:
    """A member that owns one partition; the last of ``stored`` is its stored position."""
    consumer = Scripted()

    def claim(partitions: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, Owned]:
        return {tp: Owned(stored[-1]) for tp in partitions}

    membership = Membership(consumer.connect, ["t"], claim)
    membership.join()
    consumer.come()
    return consumer, membership


def messages(*offsets: int) -> list[Message]:
    return [Message(topic="t", partition=0, offset=offset, value=b"") for offset in offsets]


def test_a_commit_that_fails_is_repeated_a_second_later() -> None:
    consumer, membership = member([5])
    membership.commit(10.0)
    membership.commit(11.0)
    assert consumer.commits == [(5, True)], "once it is committed, it is not repeated"
    consumer.on_commit(KafkaError(KafkaError.REQUEST_TIMED_OUT), [])
    membership.commit(10.9)
    assert consumer.commits == [(5, True)], "at most one a second"
    membership.commit(11.0)
    assert consumer.commits == [(5, True), (5, True)]


def test_a_commit_that_fails_for_one_partition_is_repeated() -> None:
    consumer, membership = member([5])
    membership.commit(10.0)
    consumer.on_commit(None, [SimpleNamespace(error=KafkaError(KafkaError.NOT_COORDINATOR))])
    membership.commit(11.0)
    assert consumer.commits == [(5, True), (5, True)]


def test_a_stop_commits_once_more_because_the_last_commit_may_still_fail() -> None:
    consumer, membership = member([5])
    membership.commit(10.0)
    membership.leave()
    assert consumer.commits == [(5, True), (5, False)]


def test_a_stop_without_a_broker_does_not_wait_for_a_commit() -> None:
    consumer, membership = member([5])
    consumer.error_cb(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    membership.leave()
    assert consumer.commits == []


def test_a_batch_that_does_not_follow_the_stored_position_is_read_again() -> None:
    stored = [100]
    consumer, membership = member(stored)
    consumer.polls = [lambda: messages(100), lambda: messages(101)]
    first = membership.poll(10, 0)
    assert first == {KEY: PartitionRecords(first[KEY].messages, 100, 102)}
    assert membership.follows(first)
    consumer.polls = [lambda: messages(102), list]
    second = membership.poll(10, 0)
    assert second[KEY].start == 102
    assert not membership.follows(second), "100 and 101 are not stored"
    membership.advance({KEY: Owned(105)})  # transaction markers are behind 101
    assert membership.follows(second)
    assert not membership.follows({("t", 1): second[KEY]}), "not our partition"
    membership.read_stored()
    assert consumer.assigned == [100, 105]


def test_records_from_before_a_rebalance_within_one_poll_are_dropped_and_read_again() -> None:
    stored = [100]
    consumer, membership = member(stored)

    def rebalance() -> list[Message]:
        stored.append(150)  # another worker had the partition meanwhile
        consumer.go()
        consumer.come()
        return messages(150)

    consumer.polls = [lambda: messages(100), rebalance]
    assert membership.poll(10, 0) == {}
    assert consumer.assigned == [100, 150, 150]
    consumer.polls = [lambda: messages(150), list]
    assert membership.poll(10, 0)[KEY].start == 150
