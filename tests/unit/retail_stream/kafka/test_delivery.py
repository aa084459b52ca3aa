"""One batch of a partition in flight, sent again until it is there."""

import asyncio

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)
from structlog.testing import capture_logs

from retail_stream.kafka import delivery as module
from retail_stream.kafka.delivery import BatchRefused, Delivery, Overtaken


class Broker:
    """Answers in turn with what it is given, then stores. An error of "stored" is an answer that is lost."""

    def __init__(self, *answers: Exception | str) -> None:
        self.answers, self.refreshed, self.flying = list(answers), 0, 0
        self.stored: list[bytes] = []

    async def produce(self, topic: str, partition: int, batch: bytes) -> int:
        self.flying += 1
        assert self.flying == 1
        try:
            await asyncio.sleep(0)
            answer = self.answers.pop(0) if self.answers else None
            if isinstance(answer, Exception):
                raise answer
            self.stored.append(batch)
            if answer == "stored":
                raise RequestTimedOutError
            return len(self.stored) - 1
        finally:
            self.flying -= 1

    async def refresh(self) -> None:
        self.refreshed += 1


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.01)


def delivery(broker: Broker) -> Delivery:
    return Delivery(broker, "kafka:9092", pause_s=0.001)


def test_a_batch_is_sent_again_until_it_is_there_and_nothing_overtakes_it():
    broker = Broker(KafkaConnectionError(), NotLeaderForPartitionError(), "stored", OSError("reset"), TimeoutError())

    async def run() -> list[int]:
        sending = delivery(broker)
        return await asyncio.gather(*(sending.send("t", 0, b) for b in (b"1", b"2", b"3")))

    assert asyncio.run(run()) == [1, 2, 3]
    assert broker.stored == [b"1", b"1", b"2", b"3"]
    assert broker.refreshed == 5


def test_other_partitions_do_not_wait():
    async def run() -> None:
        class Half(Broker):
            async def produce(self, topic: str, partition: int, batch: bytes) -> int:
                if partition == 0:
                    raise KafkaConnectionError
                return await super().produce(topic, partition, batch)

        sending = delivery(Half())
        stuck = asyncio.create_task(sending.send("t", 0, b"a"))
        assert [await sending.send("t", 1, b"b") for _ in range(5)] == [0, 1, 2, 3, 4]
        await asyncio.sleep(0.01)
        assert not stuck.done()
        assert sending.waiting_s > 0
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
        assert sending.waiting_s == 0

    asyncio.run(run())


def test_a_batch_that_is_too_large_is_refused_and_the_next_is_sent():
    broker = Broker(MessageSizeTooLargeError())

    async def run() -> None:
        sending = delivery(broker)
        with pytest.raises(BatchRefused, match="t does not take a batch of 5 bytes"):
            await sending.send("t", 0, b"large")
        assert await sending.send("t", 0, b"2") == 0

    asyncio.run(run())


def test_an_authorisation_that_is_lost_is_waited_for_with_one_sentence():
    broker = Broker(*[TopicAuthorizationFailedError()] * 20)
    with capture_logs() as logs:
        assert asyncio.run(delivery(broker).send("t", 3, b"1")) == 0
    (line,) = logs
    assert line["why"].startswith("Kafka at kafka:9092 does not store records of t/3: ")
    assert "uthor" in line["why"]


@pytest.mark.parametrize("cancelled", [0, 1], ids=["the one in flight", "one that waits"])
def test_what_follows_a_cancelled_send_is_not_sent_and_what_comes_later_is(cancelled: int):
    async def run() -> None:
        answer = asyncio.Event()

        class Slow(Broker):
            async def produce(self, topic: str, partition: int, batch: bytes) -> int:
                await answer.wait()
                return await super().produce(topic, partition, batch)

        broker = Slow()
        sending = delivery(broker)
        sends = [asyncio.create_task(sending.send("t", 0, batch)) for batch in (b"1", b"2", b"3")]
        await asyncio.sleep(0)
        sends[cancelled].cancel()
        await asyncio.sleep(0)
        answer.set()
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(results[cancelled], asyncio.CancelledError)
        assert all(isinstance(result, Overtaken) for result in results[cancelled + 1 :])
        assert broker.stored == [b"1", b"2", b"3"][:cancelled]
        # A reader that begins anew from what was acknowledged.
        assert await sending.send("t", 0, b"1") == cancelled

    asyncio.run(run())


@pytest.mark.parametrize(("is_said", "lines"), [(False, 1), (True, 0)])
def test_brokers_that_are_away_are_one_sentence_unless_another_says_it(monkeypatch, is_said: bool, lines: int):
    monkeypatch.setattr(module, "_QUIET_S", 0.02)
    broker = Broker(*[KafkaConnectionError()] * 20)
    sending = Delivery(broker, "kafka:9092", pause_s=0.005, outage_is_said=lambda: is_said)
    with capture_logs() as logs:
        assert asyncio.run(sending.send("t", 3, b"1")) == 0
    assert [line["why"] for line in logs] == [
        "Kafka at kafka:9092 does not store records of t/3: it does not answer."
    ] * lines


def test_brokers_that_are_away_for_a_moment_are_not_worth_a_sentence():
    with capture_logs() as logs:
        asyncio.run(delivery(Broker(*[KafkaConnectionError()] * 5)).send("t", 3, b"1"))
    assert logs == []
