"""What the variables of retention mean to Kafka."""

import pytest

from commands.retention import forget, topics
from commands.retention.settings import RetentionSettings
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.settings import load

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("KAFKA_BOOTSTRAP_SERVERS", "h:1"),
        ("SCHEMA_REGISTRY_URL", "http://h:2"),
        ("DATABASE_URL", "postgresql://h/d"),
    ):
        monkeypatch.setenv(name, value)


def test_without_variables_no_topic_is_touched():
    assert topics.wanted(load(RetentionSettings)) == {}


@pytest.mark.parametrize(
    ("days", "retention", "segment"),
    [
        ("0", "-1", str(7 * DAY_MS)),
        ("1", str(DAY_MS), str(DAY_MS // 10)),
        ("30", str(30 * DAY_MS), str(3 * DAY_MS)),
        ("400", str(400 * DAY_MS), str(7 * DAY_MS)),
    ],
)
def test_days_become_milliseconds_and_segments_of_a_tenth(monkeypatch, days, retention, segment):
    monkeypatch.setenv("RETENTION_DEAD_LETTERS_DAYS", days)
    config = {"retention.ms": retention, "segment.ms": segment}
    assert topics.wanted(load(RetentionSettings)) == {f"{e}.dlq": config for e in Entity}
    monkeypatch.setenv("RETENTION_RECORDS_DAYS", days)
    assert topics.wanted(load(RetentionSettings))["sales.clean"] == config
    assert len(topics.wanted(load(RetentionSettings))) == 3 * len(Entity)


@pytest.mark.parametrize("value", ["-1", "1.5", "for ever", "36501"])
def test_other_values_are_refused_with_what_is_allowed(monkeypatch, value):
    monkeypatch.setenv("RETENTION_RECORDS_DAYS", value)
    with pytest.raises(SettingsError, match=r"RETENTION_RECORDS_DAYS=.*; allowed: whole days from 0"):
        load(RetentionSettings)


def test_only_what_has_a_history_can_be_forgotten():
    assert forget.entity("customer") is Entity.CUSTOMERS
    with pytest.raises(SettingsError, match="'sale' has no history; allowed: customer, product, store"):
        forget.entity("sale")
