"""The record-batch transport against a real broker: workers are processes, as they are in life."""

import functools
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

WORKER = Path(__file__).with_name("transport_worker.py")
ROOT = WORKER.parents[2]
DEADLINE_S = 30.0


def eventually(check: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.05)


class Log:
    """A topic of its own, and the group that reads it."""

    def __init__(self, kafka: str, partitions: int) -> None:
        self.kafka, self.partitions = kafka, partitions
        self.topic = self.group = f"transport-{uuid.uuid4().hex[:12]}"
        self.admin = AdminClient({"bootstrap.servers": kafka})
        self.admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result(30)
        self._next = [0] * partitions
        self._committed = Consumer({"bootstrap.servers": kafka, "group.id": self.group})

    def producer(self, **config: object) -> Producer:
        return Producer({"bootstrap.servers": self.kafka, "linger.ms": 5, "enable.idempotence": True, **config})

    def append(self, producer: Producer, partition: int, count: int) -> range:
        """Records with values that go on from the last of the partition."""
        values = range(self._next[partition], self._next[partition] + count)
        for value in values:
            producer.produce(self.topic, str(value).encode(), partition=partition)
            producer.poll(0)
        self._next[partition] = values.stop
        return values

    def fill(self, count: int) -> None:
        producer = self.producer()
        for partition in range(self.partitions):
            self.append(producer, partition, count)
        producer.flush()

    def transaction(self, partition: int, count: int, *, commit: bool) -> range:
        producer = self.producer(**{"transactional.id": uuid.uuid4().hex})
        producer.init_transactions()
        producer.begin_transaction()
        values = self.append(producer, partition, count)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
        return values

    def ends(self) -> list[int]:
        asked = self.admin.list_offsets({TopicPartition(self.topic, p): OffsetSpec.latest() for p in self.all()})
        return [asked[TopicPartition(self.topic, p)].result(10).offset for p in self.all()]

    def committed(self) -> list[int | None]:
        # Not AdminClient.list_consumer_group_offsets: it kills the process where the broker has just started and the
        # coordinator is still moving (librdkafka issue 5040).
        try:
            found = self._committed.committed([TopicPartition(self.topic, p) for p in self.all()], timeout=10)
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_COORDINATOR:
                raise
            return [None] * self.partitions
        return [tp.offset if tp.offset >= 0 else None for tp in found]

    def all(self) -> range:
        return range(self.partitions)

    def is_drained(self) -> bool:
        return self.committed() == self.ends()


class Worker:
    def __init__(self, log: Log, *options: str) -> None:
        self.events: list[dict] = []
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), log.kafka, log.group, log.topic, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.stderr = ""
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            self.events.append(json.loads(line))

    def _read_errors(self) -> None:
        for line in self._process.stderr or ():
            self.stderr += line

    def of(self, event: str) -> list[dict]:
        return [e for e in list(self.events) if e["event"] == event]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(DEADLINE_S)
        for thread in self._threads:
            thread.join()
        return code

    def kill(self) -> None:
        self._process.kill()
        self.wait()


@pytest.fixture
def new_log(kafka: str) -> Iterator[Callable[[int], Log]]:
    logs: list[Log] = []

    def make(partitions: int) -> Log:
        logs.append(Log(kafka, partitions))
        return logs[-1]

    yield make
    for log in logs:
        log.admin.delete_topics([log.topic])[log.topic].result(30)


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(log: Log, *options: str) -> Worker:
        workers.append(Worker(log, *options))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()


def counts(worker: Worker, event: str = "done") -> dict[int, int]:
    """Partition → number of records."""
    result: dict[int, int] = defaultdict(int)
    for chunk in worker.of(event):
        result[chunk["partition"]] += chunk["values"][2]
    return dict(result)


def assert_in_order(worker: Worker) -> None:
    """Each partition's chunks follow one another, and so do the records in them."""
    at: dict[int, int] = {}
    for chunk in worker.of("done"):
        assert chunk["ascending"]
        assert chunk["first"] >= at.get(chunk["partition"], 0)
        at[chunk["partition"]] = chunk["next"]


def test_every_record_comes_once_in_order_and_the_end_is_committed(new_log, start):
    log = new_log(4)
    log.fill(5_000)
    worker = start(log)
    eventually(log.is_drained, "committed = end")
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == dict.fromkeys(range(4), 5_000)
    assert_in_order(worker)
    assert "Traceback" not in worker.stderr


def test_what_comes_later_is_read_soon_and_the_restarted_worker_goes_on_where_the_first_stopped(new_log, start):
    log = new_log(2)
    first = start(log)
    eventually(lambda: log.committed() == [0, 0], "an empty partition is committed at its end, too")
    for _ in range(20):
        log.fill(10)
    eventually(log.is_drained, "committed = end")
    assert first.stop() == 0, first.stderr
    assert counts(first) == {0: 200, 1: 200}
    log.fill(7)
    second = start(log)
    eventually(log.is_drained, "committed = end")
    assert second.stop() == 0, second.stderr
    assert counts(second) == {0: 7, 1: 7}


def test_aborted_records_are_skipped_and_the_position_passes_the_markers(new_log, start):
    #   partition 0:  ccc C aaa A ccc C   ends with a commit marker
    #   partition 1:  ccc C aaa A         ends with an abort marker
    #   partition 2:  aaa A               holds no record at all
    log = new_log(3)
    kept: dict[int, int] = {}
    for partition, transactions in enumerate([[True, False, True], [True, False], [False]]):
        for commit in transactions:
            values = log.transaction(partition, 300, commit=commit)
            if commit:
                kept[partition] = kept.get(partition, 0) + len(values)
    worker = start(log)
    eventually(log.is_drained, "committed = end, markers included")
    assert worker.stop() == 0, worker.stderr
    assert log.ends() == [903, 602, 301]
    assert counts(worker) == kept
    assert_in_order(worker)


def test_offsets_that_are_gone_are_no_obstacle(new_log, start):
    # 0 … 999 deleted, 1000 … 1499 kept; partition 1 holds nothing any more.
    log = new_log(2)
    log.fill(1_500)
    gone = [TopicPartition(log.topic, 0, 1_000), TopicPartition(log.topic, 1, 1_500)]
    for future in log.admin.delete_records(gone).values():
        future.result(30)
    worker = start(log)
    eventually(log.is_drained, "committed = end")
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == {0: 500}
    assert worker.of("done")[0]["first"] == 1_000


def test_workers_that_join_leave_and_die_under_load_lose_nothing_and_keep_the_order(new_log, start):
    log = new_log(4)
    loading = threading.Event()

    def load() -> None:
        producer = log.producer()
        while not loading.wait(0.02):
            for partition in log.all():
                log.append(producer, partition, 50)
        producer.flush()

    loader = threading.Thread(target=load)
    loader.start()

    def works(worker: Worker) -> Callable[[], bool]:
        seen = len(worker.of("done"))
        return lambda: len(worker.of("done")) > seen

    options = ("max_records=100", "work_s=0.01")
    workers = [start(log, *options)]
    eventually(works(workers[0]), "the first worker works")
    workers.append(start(log, *options))
    eventually(works(workers[1]), "the second one joined")
    assert workers[0].stop() == 0, workers[0].stderr
    eventually(works(workers[1]), "it goes on alone")
    workers += [start(log, *options), start(log, *options)]
    eventually(works(workers[2]), "the third one joined")
    eventually(works(workers[3]), "the fourth one joined")
    workers[1].stop(signal.SIGKILL)
    eventually(works(workers[3]), "the fourth one lives on")
    loading.set()
    loader.join()
    eventually(log.is_drained, "committed = end")
    assert workers[2].stop() == 0, workers[2].stderr
    assert workers[3].stop() == 0, workers[3].stderr

    # Whoever begins with a chunk, everything before it was done by then: so a reader of what they write sees repeats
    # at most, and never a gap.
    done_to = [0] * 4
    for event in sorted((e for w in workers for e in w.events), key=lambda e: e["at"]):
        if event["event"] == "begin":
            assert event["ascending"], event
            assert event["first"] <= done_to[event["partition"]]
        elif event["event"] == "done":
            done_to[event["partition"]] = max(done_to[event["partition"]], event["next"])
    assert done_to == log.ends()


def test_an_agent_that_raises_stops_the_worker_and_its_chunk_is_read_again(new_log, start):
    log = new_log(1)
    log.fill(1_000)
    worker = start(log, "max_records=100", "fail_at=550")
    assert worker.wait() == 7
    failed = worker.of("begin")[-1]
    assert log.committed() == [failed["first"]]
    assert "Boom" not in worker.stderr
    assert "value 550" in worker.stderr

    again = start(log)
    eventually(log.is_drained, "committed = end")
    assert again.stop() == 0, again.stderr
    assert again.of("done")[0]["first"] == failed["first"]
    assert counts(again) == {0: 1_000 - failed["first"]}


def test_a_stop_waits_for_the_chunk_in_hand_but_not_for_ever(new_log, start):
    patient, hasty = new_log(1), new_log(1)
    for log, grace_s, committed in ((patient, 5, [100]), (hasty, 0.1, [None])):
        log.fill(300)
        worker = start(log, "max_records=100", "work_s=1.0", f"grace_s={grace_s}")
        eventually(functools.partial(worker.of, "begin"), "a chunk in hand")
        assert worker.stop() == 0, worker.stderr
        assert log.committed() == committed


def test_a_slow_agent_bounds_what_is_buffered_and_commits_keep_up_with_it(new_log, start):
    log = new_log(2)
    log.fill(20_000)
    worker = start(log, "max_records=500", "work_s=0.05")
    eventually(lambda: len(worker.of("done")) > 40, "some chunks are done")
    assert worker.stop() == 0, worker.stderr
    samples = [s for s in worker.of("progress") if s["acknowledged"] is not None]
    assert max(s["position"] - s["acknowledged"] for s in samples) <= 3 * 500
    for partition in (0, 1):
        seen = [s for s in samples if s["partition"] == partition]
        for now in seen:
            # The commit interval is 1 s; the rest is for the commit itself on a busy machine.
            before = [s["acknowledged"] for s in seen if s["at"] < now["at"] - 1.5]
            assert (now["committed"] or 0) >= max(before, default=0)


def test_a_seek_back_reads_again(new_log, start):
    log = new_log(2)
    log.fill(1_000)
    worker = start(log, "scenario=seek_back")
    eventually(lambda: counts(worker) == {0: 1_990, 1: 1_000}, "990 records twice")
    assert worker.stop() == 0, worker.stderr
    repeated = [c for c in worker.of("done") if c["at"] > worker.of("seek")[0]["at"]]
    assert (repeated[0]["first"], repeated[-1]["next"]) == (10, 1_000)
    assert log.is_drained()


def test_a_paused_partition_rests_while_the_other_goes_on(new_log, start):
    log = new_log(2)
    log.fill(10_000)
    worker = start(log, "scenario=pause_one", "max_records=200", "work_s=0.005")
    eventually(log.is_drained, "committed = end")
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == {0: 10_000, 1: 10_000}
    assert_in_order(worker)
    paused, resumed = worker.of("paused")[0]["at"], worker.of("resumed")[0]["at"]
    # Half a second is for the chunks that the agent had been handed already.
    during = {c["partition"] for c in worker.of("begin") if paused + 0.5 < c["at"] < resumed}
    assert during == {1}


def test_a_broker_that_is_away_at_the_start_is_waited_for_and_a_signal_ends_the_wait(new_log, start):
    log = new_log(1)
    log.kafka = "127.0.0.1:1"
    worker = start(log)
    eventually(lambda: "does not answer" in worker.stderr, "the worker says so")
    assert worker.stop() == 0
    assert worker.stderr.count("\n") == 1
