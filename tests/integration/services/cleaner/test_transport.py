"""Agents and their feed against a real broker: workers are processes, as they are in life."""

import functools
import signal
import threading
from collections.abc import Callable

from confluent_kafka import TopicPartition

from tests.harness.eventually import eventually
from tests.integration.services.cleaner.transport import (
    Worker,
    assert_in_order,
    assert_no_gap,
    counts,
)


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

    options = ("work_s=0.01",)
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

    assert assert_no_gap(*workers) == log.ends()


def test_an_agent_that_raises_stops_the_worker_and_its_chunk_is_read_again(new_log, start):
    log = new_log(1)
    log.fill(500)
    worker = start(log, "fail_at=550")
    eventually(lambda: counts(worker) == {0: 500}, "the first ones are done")
    log.fill(500)
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
    for log, grace_s, is_committed in ((patient, 5, True), (hasty, 0.1, False)):
        log.fill(300)
        worker = start(log, "work_s=1.0", f"grace_s={grace_s}")
        eventually(functools.partial(worker.of, "begin"), "a chunk in hand")
        assert worker.stop() == 0, worker.stderr
        in_hand = worker.of("begin")[-1]
        # Nothing before it: no offset, or the first one.
        assert log.committed() in ([[in_hand["next"]]] if is_committed else [[in_hand["first"]], [None]])


def test_a_broker_that_is_away_at_the_start_is_waited_for_and_a_signal_ends_the_wait(new_log, start):
    log = new_log(1)
    log.kafka = "127.0.0.1:1"
    worker = start(log)
    eventually(lambda: "does not answer" in worker.stderr, "the worker says so")
    assert worker.stop() == 0
    assert worker.stderr.count("\n") == 1
