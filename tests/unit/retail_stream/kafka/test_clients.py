"""Consumers take their session time from the settings."""

from typing import Any

import pytest

from retail_stream.kafka import clients
from services.cleaner.app import build
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


def test_a_cleaner_is_given_up_after_the_session_time_of_the_settings() -> None:
    app: Any = build(SETTINGS, None, None, None)  # type: ignore[arg-type]
    assert (app.conf.broker_session_timeout, app.conf.broker_heartbeat_interval) == (2.5, 0.5)
