"""A topic, the group that reads it and workers as processes: what the tests of the feed share."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.harness.eventually import eventually
from tests.harness.services import ROOT

WORKER = Path(__file__).with_name("transport_worker.py")
DEADLINE_S = 30.0
# Brokers come and go here; librdkafka would say so each time.
QUIET = {"log_level": 2}


class Log:
    """A topic of its own, and the group that reads it."""

    def __init__(self, kafka: str, partitions: int, config: dict[str, str] | None = None) -> None:
        self.kafka, self.partitions = kafka, partitions
        self.topic = self.group = f"transport-{uuid.uuid4().hex[:12]}"
        self.admin = AdminClient({"bootstrap.servers": kafka, **QUIET})
        self.admin.create_topics([NewTopic(self.topic, partitions, 1, config=config or {})])[self.topic].result(30)
        self._next = [0] * partitions
        self._committed = Consumer({"bootstrap.servers": kafka, "group.id": self.group, **QUIET})

    def producer(self, **config: object) -> Producer:
        own = {"bootstrap.servers": self.kafka, "linger.ms": 5, "enable.idempotence": True}
        return Producer({**own, **QUIET, **config})

    def append(self, producer: Producer, partition: int, count: int, key: Callable[[int], str] | None = None) -> range:
        """Records with values that go on from the last of the partition; ``key``: made of the value."""
        values = range(self._next[partition], self._next[partition] + count)
        for value in values:
            while True:
                try:
                    producer.produce(self.topic, str(value).encode(), key=key and key(value), partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
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
        wanted = {TopicPartition(self.topic, p): OffsetSpec.latest() for p in self.all()}

        def asked() -> list[int]:
            # A new client each time: an old one asks with the leader epoch of before for ever.
            client = AdminClient({"bootstrap.servers": self.kafka, **QUIET})
            answers = client.list_offsets(wanted)
            return [answers[of].result(10).offset for of in wanted]

        # A broker that was frozen or has just started may know of no leaders for a moment.
        return eventually(asked, "the ends of the topic", retry_on=KafkaException)

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

    def is_settled(self) -> bool:
        """Whether it has its share of the partitions, which may be none."""
        changes = [e["event"] for e in list(self.events) if e["event"] in ("settled", "unsettled")]
        return changes[-1:] == ["settled"]

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def is_ready(self) -> bool:
        """What /readyz would say of its membership."""
        return [e["reads"] for e in self.of("ready")][-1:] == [True]

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


def assert_no_gap(*workers: Worker) -> list[int]:
    """Everything before a chunk was done when a worker began with it; returns how far each partition is done.

    So a reader of what the workers write sees repeats at most, and never a gap.
    """
    done_to: dict[int, int] = defaultdict(int)
    for event in sorted((e for w in workers for e in w.events), key=lambda e: e["at"]):
        if event["event"] == "begin":
            assert event["ascending"], event
            assert event["first"] <= done_to[event["partition"]]
        elif event["event"] == "done":
            done_to[event["partition"]] = max(done_to[event["partition"]], event["next"])
    return [done_to[p] for p in sorted(done_to)]


def assert_commits_keep_up(worker: Worker, partitions: Iterable[int]) -> None:
    """No committed offset trails the acknowledged one by more than a commit interval."""
    samples = [s for s in worker.of("progress") if s["acknowledged"] is not None]
    assert len(samples) > 20
    for partition in partitions:
        seen = [s for s in samples if s["partition"] == partition]
        for now in seen:
            # The commit interval is 1 s; the rest is for the commit itself on a machine that other tests keep busy.
            before = [s["acknowledged"] for s in seen if s["at"] < now["at"] - 5]
            assert (now["committed"] or 0) >= max(before, default=0)
