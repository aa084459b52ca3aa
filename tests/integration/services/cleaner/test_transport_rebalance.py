"""What the feed owes its agents when partitions change hands, have gaps, or are busy: against a real broker."""

from collections import Counter

from confluent_kafka import Consumer, TopicPartition

from tests.harness.eventually import eventually
from tests.integration.services.cleaner.transport import (
    Log,
    Worker,
    assert_commits_keep_up,
    assert_in_order,
    assert_no_gap,
    counts,
)


def stored(log: Log, partition: int) -> list[int]:
    """Offsets that a partition holds now."""
    consumer = Consumer({"bootstrap.servers": log.kafka, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition(log.topic, partition, 0)])
    offsets = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        offsets.append(message.offset())
    consumer.close()
    return offsets


def test_gaps_that_compaction_left_are_no_obstacle(new_log, start):
    #   written    0 s s 3 s s 6 s s …   s: all of one key, of which compaction keeps the last
    #   compacted  0 _ _ 3 _ _ 6 _ _ …
    log = new_log(1, cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.001")
    producer = log.producer()
    log.append(producer, 0, 3_000, key=lambda value: "s" if value % 3 else str(value))
    producer.flush()

    def is_compacted() -> bool:
        # Only a segment that is closed is compacted, and only a new record closes one.
        log.append(producer, 0, 1, key=str)
        producer.flush()
        return len(stored(log, 0)) < 2_000

    eventually(is_compacted, "the broker compacts", within_s=90)
    worker = start(log)
    eventually(log.is_drained, "committed = end")
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == {0: len(stored(log, 0))}
    assert_in_order(worker)


def test_a_partition_that_was_empty_is_not_starved_by_a_busy_one(new_log, start):
    log = new_log(2)
    producer = log.producer()
    log.append(producer, 0, 600_000)
    producer.flush()
    worker = start(log, "work_s=0.1")
    eventually(lambda: len(worker.of("done")) > 1, "the busy one is worked on")
    assert log.committed()[1] in (None, 0)
    log.append(producer, 1, 10)
    producer.flush()
    # It waits for what was fetched before it, which is bounded, and not for all that there is.
    eventually(lambda: counts(worker).get(1) == 10, "the other one is worked on, too")
    assert counts(worker)[0] < 400_000


def in_the_middle(worker: Worker) -> list[dict]:
    """Chunks that the worker had in hand when its partitions were taken away."""
    lost_at = [e["at"] for e in worker.of("unsettled")]
    hands = zip(worker.of("begin"), worker.of("done"), strict=False)
    return [begin for begin, done in hands if any(begin["at"] < at < done["at"] for at in lost_at)]


def test_a_chunk_in_hand_is_finished_before_its_partition_goes_to_another_worker(new_log, start):
    log = new_log(2)
    log.fill(400)
    options = ("work_s=3", "grace_s=10")
    first = start(log, *options)
    eventually(lambda: first.of("begin"), "it has a chunk in hand")
    second = start(log, *options)

    def has_a_share() -> bool:
        # However long it takes to start, the first one has a chunk in hand.
        if not second.of("begin"):
            log.fill(10)
        return bool(second.of("done"))

    eventually(has_a_share, "the second one has a share", every_s=0.5)
    eventually(log.is_drained, "committed = end")
    assert first.stop() == 0, first.stderr
    assert second.stop() == 0, second.stderr
    assert in_the_middle(first), [(e["event"], e["at"]) for e in first.events if e["event"] != "progress"]
    # Nothing twice, although it was taken away in the middle.
    both = [counts(first), counts(second)]
    assert [sum(c.get(p, 0) for c in both) for p in log.all()] == log.ends()
    assert assert_no_gap(first, second) == log.ends()


def test_a_chunk_that_takes_too_long_is_read_again_by_whoever_owns_it_next(new_log, start):
    log = new_log(2)
    log.fill(500)
    options = ("work_s=3", "grace_s=0.2")
    first = start(log, *options)
    eventually(lambda: first.of("begin"), "it has a chunk in hand")
    second = start(log, *options)

    def has_a_share() -> bool:
        # However long it takes to start, the first one has a chunk in hand.
        if not second.of("settled"):
            log.fill(10)
        return bool(second.of("begin"))

    eventually(has_a_share, "the second one has a share", every_s=0.5)

    def begun_again() -> set[tuple[int, int]]:
        begun = Counter((e["partition"], e["first"]) for w in (first, second) for e in w.of("begin"))
        return {chunk for chunk, times in begun.items() if times > 1}

    eventually(begun_again, "the chunk is read again")
    eventually(log.is_drained, "committed = end", within_s=60)
    assert first.stop() == 0, first.stderr
    assert second.stop() == 0, second.stderr
    assert "chunks are not finished in time" in first.stderr
    assert assert_no_gap(first, second) == log.ends()


def test_a_worker_that_gets_no_partition_is_settled_and_takes_over_from_one_that_dies(new_log, start):
    log = new_log(1)
    log.fill(10)
    workers = [start(log), start(log)]
    eventually(log.is_drained, "committed = end")
    eventually(lambda: all(w.of("settled") for w in workers), "both know their share")
    eventually(lambda: [w.is_settled() for w in workers] == [True, True], "both have their share")
    busy = [bool(w.of("done")) for w in workers]
    assert sorted(busy) == [False, True]
    workers[busy.index(True)].kill()
    log.fill(10)
    idle = workers[busy.index(False)]
    eventually(log.is_drained, "committed = end")
    assert counts(idle) == {0: 10}
    assert idle.stop() == 0, idle.stderr


def test_commits_keep_up_at_full_speed(new_log, start):
    log = new_log(2)
    log.fill(400_000)
    worker = start(log)
    eventually(log.is_drained, "committed = end", within_s=60)
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == {0: 400_000, 1: 400_000}
    assert_commits_keep_up(worker, log.all())
