"""Topics and workers for the tests of the feed."""

from collections.abc import Callable, Iterator

import pytest

from commands.embedded.stack import Stack
from tests.harness.servers import private_stack
from tests.integration.services.cleaner.transport import Log, Worker


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """Embedded servers of the module's own, whose processes it may freeze and kill."""
    with private_stack() as running:
        assert isinstance(running, Stack)
        yield running


@pytest.fixture
def new_log(kafka: str) -> Iterator[Callable[..., Log]]:
    logs: list[Log] = []

    def make(partitions: int, **config: str) -> Log:
        """``config``: of the topic, with _ for its dots."""
        logs.append(Log(kafka, partitions, {name.replace("_", "."): value for name, value in config.items()}))
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
