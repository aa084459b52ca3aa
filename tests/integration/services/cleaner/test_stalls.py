"""Moments in which a client can hang: each costs the outage and at most 30 s more, and readiness says so meanwhile."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer

from commands.embedded.servers import Server
from commands.embedded.stack import Stack
from tests.harness.eventually import eventually
from tests.harness.groups import remove_members
from tests.harness.servers import CONTAINERS
from tests.integration.services.cleaner.transport import Log, assert_no_gap, counts

pytestmark = pytest.mark.skipif(CONTAINERS, reason="freezes the broker's process")
AFTER_S = 30.0


@pytest.fixture
def log(own_stack: Stack) -> Log:
    return Log(own_stack.env["KAFKA_BOOTSTRAP_SERVERS"], 2)


def lasts(seconds: float, condition: Callable[[], bool]) -> None:
    """The condition holds for so long."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until or not condition(), "the time is over", seconds + 5)
    assert condition()


@pytest.mark.parametrize("frozen_s", [15, pytest.param(40, marks=pytest.mark.long)])
def test_offsets_that_are_not_answered_after_an_assignment_are_waited_for(own_stack, log, start, frozen_s: int):
    log.fill(100)
    broker = own_stack.pid(Server.KAFKA)
    worker = start(log, f"freeze={broker}")
    try:
        eventually(lambda: worker.of("frozen"), "the broker is frozen")
        lasts(frozen_s, lambda: not worker.is_ready())
        assert worker.stderr.count("does not answer") in range(1, 3), worker.stderr
    finally:
        os.kill(broker, signal.SIGCONT)
    eventually(worker.is_ready, "it reads", within_s=AFTER_S)
    eventually(log.is_drained, "committed = end", within_s=AFTER_S)
    assert worker.stop() == 0, worker.stderr
    assert counts(worker) == {0: 100, 1: 100}


def test_a_stop_ends_the_wait_for_offsets(own_stack, log, start):
    broker = own_stack.pid(Server.KAFKA)
    worker = start(log, f"freeze={broker}")
    try:
        eventually(lambda: worker.of("frozen"), "the broker is frozen")
        began = time.monotonic()
        assert worker.stop() == 0, worker.stderr
        assert time.monotonic() - began < 10
    finally:
        os.kill(broker, signal.SIGCONT)


@pytest.mark.long
def test_a_frozen_broker_is_one_sentence_and_no_work(own_stack, log, start):
    worker = start(log)
    eventually(worker.is_ready, "it reads")
    broker = own_stack.pid(Server.KAFKA)
    os.kill(broker, signal.SIGSTOP)
    try:
        eventually(lambda: not worker.is_ready(), "it says that it does not read", within_s=AFTER_S)
        cpu_s, lines = worker.cpu_s(), worker.stderr.count("\n")
        lasts(20, lambda: not worker.is_ready())
        assert worker.cpu_s() - cpu_s < 2
        assert worker.stderr.count("\n") - lines <= 2, worker.stderr
    finally:
        os.kill(broker, signal.SIGCONT)
    log.fill(50)
    eventually(log.is_drained, "committed = end", within_s=AFTER_S)
    assert worker.is_ready()
    assert worker.stop() == 0, worker.stderr


def test_a_member_with_another_assignor_is_one_sentence_and_is_waited_for(own_stack, log, start):
    log.fill(10)
    foreign = Consumer(
        {
            "bootstrap.servers": log.kafka,
            "group.id": log.group,
            "partition.assignment.strategy": "range",
            "log_level": 2,
        }
    )
    foreign.subscribe([log.topic])
    try:
        eventually(lambda: foreign.poll(0.2) or foreign.assignment(), "the other one is a member")
        worker = start(log)
        eventually(lambda: "refuses a member of the group" in worker.stderr, "it says why it waits")
        lasts(5, lambda: foreign.poll(0.1) is None or not worker.is_ready())
        assert worker.stderr.count("refuses a member") == 1
    finally:
        foreign.close()
    eventually(worker.is_ready, "it is a member", within_s=AFTER_S)
    eventually(log.is_drained, "committed = end", within_s=AFTER_S)
    assert worker.stop() == 0, worker.stderr


def test_a_member_that_its_group_does_not_know_any_more_joins_again(own_stack, log, start):
    log.fill(100)
    worker = start(log)
    eventually(log.is_drained, "committed = end")
    remove_members(log.admin, log.kafka, log.group)
    # Until its next heartbeat it cannot know.
    eventually(lambda: worker.stderr.count("assigned") == 2, "it is a member anew", within_s=AFTER_S)
    eventually(worker.is_ready, "it is a member again", within_s=AFTER_S)
    log.fill(100)
    eventually(log.is_drained, "committed = end", within_s=AFTER_S)
    assert worker.stop() == 0, worker.stderr
    assert assert_no_gap(worker) == log.ends()
