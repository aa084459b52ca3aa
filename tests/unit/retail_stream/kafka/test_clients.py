"""Consumers take their session time from the settings."""

from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from retail_stream.kafka import clients, group_consumer
from retail_stream.kafka.group_consumer import GroupConsumer
from services.cleaner.settings import CleanerSettings

SETTINGS = CleanerSettings(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://u@127.0.0.1:9/d",
    kafka_session_timeout_s=2.5,
)


def test_a_consumer_is_given_up_after_the_session_time_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(clients, "Consumer", made.append)
    clients.consumer(SETTINGS, "g")
    assert (made[0]["session.timeout.ms"], made[0]["heartbeat.interval.ms"]) == (2500, 500)


def test_a_member_is_given_up_after_the_session_time_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Consumer(MagicMock):
        def __init__(self, **config: Any) -> None:
            super().__init__()
            made.append(config)

    monkeypatch.setattr(group_consumer, "AIOKafkaConsumer", Consumer)
    GroupConsumer(SETTINGS, "g", AsyncMock(), MagicMock())
    assert (made[0]["session_timeout_ms"], made[0]["heartbeat_interval_ms"]) == (2500, 500)
