"""A wrong or missing setting is one sentence that names the variable, the value and what is allowed."""

import pytest

from commands.init import InitSettings
from retail_stream.errors import SettingsError
from retail_stream.settings import Connections, load
from services.cleaner.settings import CleanerSettings

GOOD = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092,[::1]:9093",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:8081",
    "DATABASE_URL": "postgresql://u:p@h/d",
}


@pytest.fixture
def environment(monkeypatch):
    for name in (*GOOD, "DLQ_MAX_RATIO"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_good_settings_are_read(environment):
    assert load(CleanerSettings).dlq_max_ratio == 0.5


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_variable_is_named(environment, name):
    environment.delenv(name)
    with pytest.raises(SettingsError, match=rf"^{name} is not set; allowed: .+\.$"):
        load(Connections)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:99999"),
        ("SCHEMA_REGISTRY_URL", "localhost:8081"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DLQ_MAX_RATIO", "1.5"),
        ("DLQ_MAX_RATIO", "-0.1"),
        ("DLQ_MAX_RATIO", "nan"),
        ("DLQ_MAX_RATIO", "half"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(environment, name, value):
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(CleanerSettings)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name}='{value}': must ")
    assert "allowed: " in sentence
    assert "\n" not in sentence


def test_more_replicas_in_sync_than_there_are_is_one_sentence(environment):
    environment.setenv("TOPIC_REPLICATION_FACTOR", "1")
    environment.setenv("TOPIC_MIN_INSYNC_REPLICAS", "2")
    with pytest.raises(SettingsError) as caught:
        load(InitSettings)
    assert str(caught.value) == ("TOPIC_MIN_INSYNC_REPLICAS=2: must be at most TOPIC_REPLICATION_FACTOR, which is 1.")
