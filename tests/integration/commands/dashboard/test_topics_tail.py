"""The tail of topics that the page reads: each record once, without a long backlog, without a wait for transactions."""

import time
import uuid
from collections.abc import Callable

import pytest

from commands.dashboard.topics_tail import Tail
from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.harness.servers import Servers
from tests.integration.services.cleaner.transport import Log


@pytest.fixture(scope="module")
def connections(stack: Servers) -> Connections:
    return Connections.model_validate({name.lower(): value for name, value in stack.env.items()})


def news(tail: Tail) -> dict[int, list[int]]:
    """Partition → values."""
    values: dict[int, list[int]] = {}
    for records in tail.news():
        values.setdefault(records[0].partition() or 0, []).extend(int(m.value() or b"") for m in records)
    return values


def test_each_record_comes_once_and_a_long_backlog_is_skipped(
    connections: Connections, new_log: Callable[[int], Log]
) -> None:
    log = new_log(2)
    producer = log.producer()
    log.append(producer, 0, 10)
    log.append(producer, 1, 2)
    producer.flush()
    tail = Tail(connections, [log.topic], backlog=4)
    assert news(tail) == {0: [6, 7, 8, 9], 1: [0, 1]}
    assert tail.skipped == 6
    assert news(tail) == {}
    log.append(producer, 1, 3)
    producer.flush()
    assert news(tail) == {1: [2, 3, 4]}
    assert tail.skipped == 6


def test_a_transaction_that_is_open_is_not_waited_for(connections: Connections, new_log: Callable[[int], Log]) -> None:
    log = new_log(1)
    producer = log.producer(**{"transactional.id": uuid.uuid4().hex})
    producer.init_transactions()
    producer.begin_transaction()
    log.append(producer, 0, 3)
    producer.flush()
    tail = Tail(connections, [log.topic], backlog=100)
    began = time.monotonic()
    assert news(tail) == {}
    assert time.monotonic() - began < 5
    producer.commit_transaction()
    # A broker writes the marker a moment after it has answered.
    assert eventually(lambda: news(tail), "the records of the transaction") == {0: [0, 1, 2]}
    # The marker of the transaction is the last offset: it is not waited for either.
    began = time.monotonic()
    assert news(tail) == {}
    assert time.monotonic() - began < 5
