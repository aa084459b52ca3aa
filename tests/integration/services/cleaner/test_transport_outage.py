"""A broker that is killed under load and comes back: workers wait, and go on where they were."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient

from commands.embedded.servers import Server
from tests.harness.eventually import eventually
from tests.harness.servers import Servers
from tests.integration.services.cleaner.transport import QUIET, Log, Worker, assert_no_gap


@pytest.mark.long
def test_a_broker_that_is_killed_under_load_costs_no_record_and_no_worker(stack: Servers, start: Callable[..., Worker]):
    log = Log(stack.env["KAFKA_BOOTSTRAP_SERVERS"], 4)
    loaded = threading.Event()

    def load() -> None:
        producer = log.producer()
        while not loaded.wait(0.02):
            for partition in log.all():
                log.append(producer, partition, 20)
        assert producer.flush(60) == 0

    def beyond(before: list[int]) -> bool:
        return all(len(w.of("done")) > n for w, n in zip(workers, before, strict=True))

    loader = threading.Thread(target=load)
    loader.start()
    workers = [start(log, "work_s=0.005") for _ in range(2)]
    try:
        for kill in (1, 2):
            done = [len(w.of("done")) for w in workers]
            eventually(partial(beyond, done), "work")
            stack.kill(Server.KAFKA)
            eventually(
                lambda: any("does not answer" in w.stderr for w in workers), "a worker logs that the broker is away"
            )
            stack.start(Server.KAFKA)
            stack.wait_ready(Server.KAFKA)
            done = [len(w.of("done")) for w in workers]
            eventually(
                partial(beyond, done),
                f"both go on after kill {kill}",
                within_s=60,
            )
    finally:
        loaded.set()
        loader.join()
    # A client that saw the broker die goes on asking with what it knew before.
    log.admin = AdminClient({"bootstrap.servers": log.kafka, **QUIET})
    eventually(log.is_drained, "committed = end", within_s=60)
    for worker in workers:
        assert worker.stop() == 0, worker.stderr
        assert "Traceback" not in worker.stderr
    assert assert_no_gap(*workers) == log.ends()
