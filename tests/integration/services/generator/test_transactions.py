"""The generator's transactions and its claim, with a real broker."""

import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from commands.init import InitSettings, create_topics
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.waiting import Outage
from services.generator.publishing.claim import Claim
from services.generator.publishing.transactions import Transactions
from tests.harness.eventually import eventually
from tests.integration.services.cleaner.transport import Log


class LostAnswer:
    """A producer whose first commit has no answer: its broker died just before or just after it logged the commit.

    The errors are those of librdkafka when the broker's host name disappears, too: it takes the commit for failed, and
    has no transaction to abort.
    """

    def __init__(self, producer: Producer, *, worked: bool) -> None:
        self._producer = producer
        self._worked = worked

    def commit_transaction(self, timeout: float) -> None:
        self._producer.flush()
        if self._worked:
            self._producer.commit_transaction(timeout)
        raise KafkaException(KafkaError(KafkaError._RESOLVE, "EndTxn commit failed"))

    def abort_transaction(self, _: float) -> None:
        raise KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "Failed to end transaction", True))

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)


@pytest.mark.parametrize("worked", [True, False])
def test_after_a_commit_without_an_answer_each_record_is_there_once(
    connections: Connections, new_log: Callable[..., Log], worked: bool
) -> None:
    log, claim = new_log(2), Claim(connections)
    claim.take()
    transactions = Transactions(connections, f"test-{log.topic}", threading.Event(), Outage(), claim)
    transactions.open()

    def send(*values: str) -> None:
        def write(producer: Producer) -> None:
            for value in values:
                producer.produce(log.topic, value, value, on_delivery=transactions.delivered)

        transactions.run(write)

    send("before")
    transactions._producer = LostAnswer(transactions._producer, worked=worked)  # type: ignore[arg-type, assignment]
    send("a", "b", "c")
    send("after")
    values = [m.value().decode() for m in read_to_end(connections, log.topic)]
    assert sorted(values) == ["a", "after", "b", "before", "c"]


def test_the_last_one_that_took_the_claim_has_it(connections: Connections) -> None:
    first, second = Claim(connections), Claim(connections)
    first.take()
    first.check()
    second.take()
    second.check()
    with pytest.raises(RetailStreamError, match="Another generator has started"):
        first.check()
    first.take()
    first.check()
    with pytest.raises(RetailStreamError, match="Another generator has started"):
        second.check()


@pytest.mark.long
def test_a_generator_that_cannot_know_the_claim_does_not_have_it(connections: Connections) -> None:
    claim = Claim(connections)
    claim.take()
    client = clients.admin(connections)
    client.delete_topics([Result.STATE])[Result.STATE].result()
    eventually(lambda: not topic_partitions(connections, Result.STATE), "the topic is gone")
    create_topics(InitSettings(**connections.model_dump()))
    with pytest.raises(RetailStreamError, match="no longer names the generator that started last"):
        claim.check()
    away = Claim(connections.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"}))
    for ask in (away.take, away.check):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not answer"):
            ask()


def test_a_transaction_that_hangs_on_the_topic_is_waited_for_within_limits(
    connections: Connections, new_log: Callable[..., Log]
) -> None:
    log = new_log(1)
    hanging = clients.producer(connections, **{"transactional.id": f"hangs-{log.topic}"})
    hanging.init_transactions(30)
    hanging.begin_transaction()
    hanging.produce(log.topic, "1")
    assert hanging.flush(30) == 0
    transactions = Transactions(connections, f"test-{log.topic}", threading.Event(), Outage(), Claim(connections))
    # It polls its producer where a busy broker does not answer in time.
    transactions.open()
    began = time.monotonic()
    transactions.wait_until_readable(log.topic, patience_s=0.5)
    assert time.monotonic() - began >= 0.5
    hanging.abort_transaction(30)
    transactions.wait_until_readable(log.topic)
