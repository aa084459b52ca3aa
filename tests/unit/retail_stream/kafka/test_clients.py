"""Both clients take the session time of a group's members from the settings."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from retail_stream.kafka import clients, group_consumer
from retail_stream.settings import Connections
from tests.harness.eventually import eventually

CONNECTIONS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://u@127.0.0.1:9/d",
    kafka_session_timeout_s=2.5,
)


def test_a_consumer_is_given_up_after_the_session_time_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(clients, "Consumer", made.append)
    clients.consumer(CONNECTIONS, "g")
    assert (made[0]["session.timeout.ms"], made[0]["heartbeat.interval.ms"]) == (2500, 500)


def test_a_member_of_a_group_is_given_up_after_the_session_time_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []

    def consumer(**settings: Any) -> Any:
        made.append(settings)
        return SimpleNamespace(_client=SimpleNamespace(_metadata_update=None))

    monkeypatch.setattr(group_consumer, "AIOKafkaConsumer", consumer)
    group_consumer.GroupConsumer(CONNECTIONS, "g", None, None)  # type: ignore[arg-type]
    assert (made[0]["session_timeout_ms"], made[0]["heartbeat_interval_ms"]) == (2500, 500)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (None, "does not answer."),
        (TimeoutError(), "does not answer."),
        (KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)), "does not answer."),
        (KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT)), "does not answer."),
        (
            KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "Broker: Topic authorization failed")),
            "answers: Broker: Topic authorization failed.",
        ),
        (
            KafkaException(KafkaError(KafkaError._FENCED, "This instance has been fenced by a newer instance")),
            "answers: This instance has been fenced by a newer instance.",
        ),
    ],
)
def test_what_a_broker_answers_is_passed_on_in_its_words(error: Exception | None, sentence: str) -> None:
    assert str(clients.unavailable(CONNECTIONS, error)) == f"Kafka at 127.0.0.1:9 {sentence}"


def test_a_client_s_own_lines_are_lines_of_our_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    producer = clients.producer(CONNECTIONS, log_level=7, debug="broker")

    def lines() -> list[logging.LogRecord]:
        # A line below the log's level is an event of the client, too.
        producer.poll(0.05)
        return caplog.records

    eventually(lines, "librdkafka says that it cannot connect")
    assert {record.name for record in caplog.records} == {"librdkafka"}
    assert capfd.readouterr().err == ""
