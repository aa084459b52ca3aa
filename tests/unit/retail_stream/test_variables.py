"""A misspelt setting is named, with the one that was meant; variables of other programs are not."""

import pytest

from retail_stream import variables
from tests.unit.retail_stream.test_settings import SETTINGS


def test_every_setting_is_known() -> None:
    assert {name.upper() for settings in SETTINGS for name in settings.model_fields} == variables.KNOWN


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GENERATOR_SALES_PER_SEC", "GENERATOR_SALES_PER_S"),
        ("GENERATOR_FAULT_NEGATIV_DISCOUNT", "GENERATOR_FAULT_NEGATIVE_DISCOUNT"),
        ("SALES_WINDOW", "SALES_WINDOWS"),
        ("DLQ_RATIO", "DLQ_MAX_RATIO"),
        ("METRICS_PORTS", "METRICS_PORT"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("TOPIC_PARTITION", "TOPIC_PARTITIONS"),
        ("WATERMARK_DELAY", "WATERMARK_DELAY_S"),
        ("ALLOWED_LATENESS", "ALLOWED_LATENESS_S"),
        ("IDLE_TIMEOUT", "IDLE_TIMEOUT_S"),
        ("FACT_SALE", "FACT_SALES"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("LATENCY_MAX", "LATENCY_MAX_S"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(name: str, nearest: str) -> None:
    assert variables.unknown([name, *variables.KNOWN]) == [
        f"{name} is no setting and changes nothing; the nearest setting is {nearest}."
    ]


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "KAFKA_HEAP_OPTS",
        "KAFKA_PORT",
        "KAFKA_SERVICE_HOST",
        "KAFKA_PORT_9092_TCP_ADDR",
        "SALESFORCE",
        "DEMOCRACY",
    ],
)
def test_variables_of_other_programs_are_left_alone(name: str) -> None:
    assert variables.unknown([name]) == []
