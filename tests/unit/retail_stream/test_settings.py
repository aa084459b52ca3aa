"""A wrong or missing setting is one sentence that names the variable, the value and what is allowed."""

import re
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from commands.dashboard.settings import DashboardSettings
from commands.demo.run import DemoSettings, PageSettings
from commands.embedded.settings import EmbeddedSettings
from commands.init import InitSettings
from commands.retention.settings import RetentionSettings, TopicRetention
from retail_stream.errors import SettingsError
from retail_stream.service.logs import LogSettings
from retail_stream.service.metrics import MetricsSettings
from retail_stream.settings import WRONG, Connections, Settings, load
from services.aggregator.settings import AggregatorSettings
from services.cleaner.settings import CleanerSettings
from services.generator.settings import GeneratorSettings
from services.scd_merger.settings import MergerSettings

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
    assert sentence.startswith(f"{name}='{value}' ")
    assert "allowed: " in sentence
    assert "\n" not in sentence


def test_more_replicas_in_sync_than_there_are_is_one_sentence(environment):
    environment.setenv("TOPIC_REPLICATION_FACTOR", "1")
    environment.setenv("TOPIC_MIN_INSYNC_REPLICAS", "2")
    with pytest.raises(SettingsError) as caught:
        load(InitSettings)
    assert str(caught.value) == (
        "TOPIC_MIN_INSYNC_REPLICAS=2 is more than TOPIC_REPLICATION_FACTOR=1; allowed: at most that."
    )


SETTINGS = (
    AggregatorSettings,
    CleanerSettings,
    Connections,
    DashboardSettings,
    DemoSettings,
    EmbeddedSettings,
    GeneratorSettings,
    InitSettings,
    RetentionSettings,
    TopicRetention,
    LogSettings,
    MergerSettings,
    MetricsSettings,
    PageSettings,
)


def test_no_settings_are_missing_here() -> None:
    def below(settings: type[Settings]) -> Iterator[type[Settings]]:
        for one in settings.__subclasses__():
            yield from (one, *below(one))

    ours = {one for one in below(Settings) if not one.__module__.startswith("tests.")}
    assert ours == set(SETTINGS)


#: A value for each way in which a setting can be wrong, and some that are right for most.
VALUES = [
    "", " ", "x", "a b", "-1", "0", "1.5", "0.000001", "nan", "inf", "1e308", "70000", "9" * 30, "9" * 5000, "1900",
    "tomorrow", "2026-11-28", "2026-11-28T10:00:00", "1900-01-01T00:00:00Z", "2026-11-28T10:00:00Z", "+", ",", "a:b",
    "localhost:70000", "mysql://host/x", "/nowhere", "5m/2m", "2000d", "1m,60s", "a=b", "*x",
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
def test_whatever_is_wrong_is_one_plain_sentence(environment: pytest.MonkeyPatch, settings: type[Settings]) -> None:
    own = settings.model_fields if settings is Connections else settings.__annotations__
    # One field of each kind: a load takes a while.
    kinds = {
        repr((f.annotation, f.metadata, f.description)): name for name in own for f in [settings.model_fields[name]]
    }
    for field in kinds.values():
        for value in VALUES:
            with environment.context() as one:
                one.setenv(field.upper(), value)
                try:
                    settings()
                    continue
                except ValidationError as e:
                    wrong = e.errors()
                with pytest.raises(SettingsError) as caught:
                    load(settings)
            sentence = str(caught.value)
            assert [kind for error in wrong if (kind := error["type"]) not in WRONG] == []
            if wrong[0]["loc"]:
                said = re.escape(f"{field.upper()}={value!r}")
                assert re.fullmatch(rf"{said} (is|has|does|cannot) [^;]+; allowed: .+\.", sentence), sentence
            assert not re.search(r"should|must|[Ii]nput|None|\n|\{", sentence.replace(repr(value), "")), sentence


@pytest.mark.parametrize(
    ("settings", "name", "value", "sentence"),
    [
        (CleanerSettings, "DLQ_MAX_RATIO", "half", "is not a number; allowed: a number from 0 to 1."),
        (CleanerSettings, "DLQ_MAX_RATIO", "1.5", "is out of range; allowed: a number from 0 to 1."),
        (CleanerSettings, "DLQ_MAX_RATIO", "nan", "is not a finite number; allowed: a number from 0 to 1."),
        (InitSettings, "TOPIC_PARTITIONS", "four", "is not a whole number; allowed: a whole number from 1 to 1000."),
        (
            GeneratorSettings,
            "GENERATOR_BACKFILL_FROM",
            "2026-11-28",
            "has no time zone; allowed: "
            "an ISO 8601 time with its zone, from 1980 up to now, for example 2026-03-01T08:00:00Z.",
        ),
        (
            GeneratorSettings,
            "GENERATOR_START_TIME",
            "tomorrow",
            "is not a valid time; allowed: "
            "an ISO 8601 time with its zone, from 1980 up to now, for example 2026-03-01T08:00:00Z.",
        ),
        (
            GeneratorSettings,
            "GENERATOR_SALES_PER_S",
            "0.000001",
            "is neither 0 nor at least 0.00001; allowed: 0 (as fast as possible), or a number from 0.00001 to 1000000.",
        ),
        (
            AggregatorSettings,
            "SALES_WINDOWS",
            "1m,5m/2m",
            "has the part '5m/2m', whose size is not a multiple of its slide; allowed: a list like 1m,1h,5m/1m.",
        ),
        (AggregatorSettings, "FACT_SALES", "yes", "is not a known value; allowed: on or off."),
        (
            Connections,
            "KAFKA_BOOTSTRAP_SERVERS",
            "a:1,b",
            "has the part 'b', which is not host:port; allowed: host:port[,host:port].",
        ),
        (
            MetricsSettings,
            "METRICS_HOST",
            "",
            "is empty or contains a space; allowed: an address or name of this machine, such as 127.0.0.1 or 0.0.0.0.",
        ),
        (Connections, "KAFKA_SESSION_TIMEOUT_S", "31", "is out of range; allowed: seconds from 1 to 30."),
        (Connections, "KAFKA_SESSION_TIMEOUT_S", "0.5", "is out of range; allowed: seconds from 1 to 30."),
        (Connections, "KAFKA_SESSION_TIMEOUT_S", "10s", "is not a number; allowed: seconds from 1 to 30."),
        (
            Connections,
            "KAFKA_SSL_CAFILE",
            "/nowhere",
            "cannot be read (No such file or directory); allowed: a file in PEM format.",
        ),
    ],
)
def test_each_kind_of_mistake_has_its_sentence(
    environment: pytest.MonkeyPatch, settings: type[Settings], name: str, value: str, sentence: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(settings)
    assert str(caught.value) == f"{name}={value!r} {sentence}"


def test_a_wrong_url_is_shown_without_its_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "mysql://ada:p/w@d@host/x")
    with pytest.raises(SettingsError, match=r"DATABASE_URL='mysql://\*\*\*@host/x' does not start with postgresql://"):
        load(Connections)
