"""What a read does while its broker is silent."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition

from retail_stream.errors import Unavailable
from retail_stream.kafka import reading
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.settings import Connections

CONNECTIONS = Connections(
    kafka_bootstrap_servers="127.0.0.1:1",
    schema_registry_url="http://127.0.0.1:1",
    database_url="postgresql://127.0.0.1:1/none",
)
RANGES = {("t", 0): range(3), ("t", 1): range(2)}


class Client:
    """Gives one message, or nothing, at each call; then nothing for ever."""

    def __init__(self, *messages: Message | None) -> None:
        self._messages: Iterator[Message | None] = iter(messages)
        self.closed = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = [(tp.topic, tp.partition, tp.offset) for tp in partitions]

    def pause(self, _: object) -> None: ...

    def consume(self, _: int, __: float) -> list[Message]:
        message = next(self._messages, None)
        return [] if message is None else [message]

    def close(self) -> None:
        self.closed = True


def record(partition: int, offset: int) -> Message:
    return Message("t", partition, offset, b"k", b"v")


def report(code: int, *, retriable: bool = False) -> Message:
    return Message(topic="t", partition=0, error=KafkaError(code, None, False, retriable))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch):
    """Reads by a client, from a broker that answers with these offsets that a reader may come to, or not at all."""

    def run(client: Client, readable: dict[TopicPartitionKey, int] | None) -> list[tuple[int | None, int | None]]:
        def latest(*_: object, **__: object) -> dict[TopicPartitionKey, int]:
            if readable is None:
                raise Unavailable("Kafka at 127.0.0.1:1 does not answer.")
            return readable

        monkeypatch.setattr(reading, "consumer", lambda *_: client)
        monkeypatch.setattr(reading, "latest_offsets", latest)
        monkeypatch.setattr(reading, "SILENCE_S", 0.01)
        monkeypatch.setattr(reading, "OPEN_TRANSACTION_S", 0.1)
        try:
            return [(m.partition(), m.offset()) for batch in reading.read(CONNECTIONS, RANGES) for m in batch]
        finally:
            assert client.closed

    return run


READ_0 = [record(0, 0), record(0, 1), record(0, 2)]


def test_a_broker_that_does_not_answer(reads) -> None:
    with pytest.raises(Unavailable, match=r"^Kafka at 127.0.0.1:1 does not answer.$"):
        reads(Client(*READ_0), None)


def test_a_broker_that_has_records_and_does_not_send_them(reads) -> None:
    with pytest.raises(Unavailable, match=r"^Kafka at 127.0.0.1:1 does not answer.$"):
        reads(Client(*READ_0), {("t", 1): 2})


def test_a_transaction_that_stays_open(reads) -> None:
    with pytest.raises(Unavailable, match="held back the records of t/1 from offset 1 on"):
        reads(Client(*READ_0, record(1, 0)), {("t", 1): 1})


def test_what_the_client_retries_by_itself_is_passed_over(reads) -> None:
    passing = [report(KafkaError._TRANSPORT), report(KafkaError._ALL_BROKERS_DOWN)]
    passing.append(report(KafkaError.NOT_LEADER_FOR_PARTITION, retriable=True))
    found = reads(Client(*READ_0, *passing, record(1, 0), record(1, 1)), None)
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_an_error_that_no_client_can_retry_is_one_sentence(reads) -> None:
    with pytest.raises(Unavailable, match=r"^Kafka: Broker: Topic authorization failed.$"):
        reads(Client(*READ_0, report(KafkaError.TOPIC_AUTHORIZATION_FAILED)), None)


def test_records_outside_the_ranges_are_left_out(reads) -> None:
    found = reads(Client(record(1, 5), *READ_0, record(0, 3)), None)
    assert found == [(0, 0), (0, 1), (0, 2)]


def test_an_end_before_the_stop_is_not_the_end(reads) -> None:
    """A transaction that is open at offset 1 ends a partition there, for as long as it is open."""
    ended = [Message(topic="t", partition=p, offset=1, error=KafkaError(KafkaError._PARTITION_EOF)) for p in (0, 1)]
    found = reads(Client(record(0, 0), record(1, 0), *ended, record(0, 1), record(0, 2), record(1, 1)), None)
    assert found == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)]


@pytest.fixture
def silent_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that answers nothing but what a client gives."""

    def latest(*_: object, **__: object) -> dict[TopicPartitionKey, int]:
        raise Unavailable("Kafka at 127.0.0.1:1 does not answer.")

    monkeypatch.setattr(reading, "latest_offsets", latest)
    monkeypatch.setattr(reading, "SILENCE_S", 0.01)


def test_a_patient_reader_goes_on_behind_what_it_has(silent_broker, monkeypatch) -> None:
    first, second = Client(*READ_0, record(1, 0)), Client(record(1, 1))
    clients = iter([first, second])
    monkeypatch.setattr(reading, "consumer", lambda *_: next(clients))
    found = [(m.partition(), m.offset()) for b in reading.read_patiently(CONNECTIONS, RANGES, 5) for m in b]
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert second.assigned == [("t", 1, 1)]
    assert (first.closed, second.closed) == (True, True)


def test_a_patient_reader_gives_up_in_the_end(silent_broker, monkeypatch) -> None:
    monkeypatch.setattr(reading, "consumer", lambda *_: Client())
    with pytest.raises(Unavailable, match="does not answer"):
        list(reading.read_patiently(CONNECTIONS, RANGES, 0.5))
