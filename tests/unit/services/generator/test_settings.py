"""A wrong setting is one sentence: the variable, the value, what is wrong and what is allowed."""

import os
import subprocess
import sys

import pytest

from retail_stream.entities import JOINED, Entity
from retail_stream.errors import SettingsError
from retail_stream.settings import load
from services.generator.faults import PROFILES, Fault, Profile
from services.generator.retailer.catalogue import SPECS
from services.generator.settings import GeneratorSettings
from services.generator.timing.schedule import Steady
from services.generator.timing.traffic import Traffic

BURSTS = Traffic(1, PROFILES[Profile.HOSTILE], partitions=4)
SERVERS = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
}


@pytest.fixture(autouse=True)
def _servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("GENERATOR_")]:
        monkeypatch.delenv(name)
    for name, value in SERVERS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GENERATOR_SALES_PER_S", "-1"),
        ("GENERATOR_SALES_PER_S", "inf"),
        ("GENERATOR_CHANGES_PER_S", "many"),
        ("GENERATOR_SALES_PER_S", "1e-300"),
        ("GENERATOR_SALES_PER_S", "0.0000099"),
        ("GENERATOR_CHANGES_PER_S", "5e-324"),
        ("GENERATOR_MAX_SALES", "0"),
        ("GENERATOR_MAX_SALES", "1000000000001"),
        ("GENERATOR_MAX_SALES", "1" + "0" * 26),
        ("GENERATOR_EVOLVE_AFTER_S", "1000000001"),
        ("GENERATOR_EVOLVE_AFTER_S", "1e308"),
        ("GENERATOR_SEED", "-3"),
        ("GENERATOR_START_TIME", "2026-03-01T08:00:00"),
        ("GENERATOR_START_TIME", "0001-01-01T00:00:00+14:00"),
        ("GENERATOR_START_TIME", "1979-12-31T23:59:59Z"),
        ("GENERATOR_BACKFILL_FROM", "1800-01-01T00:00:00Z"),
        ("GENERATOR_FAULT_RETURN", "1.5"),
        ("GENERATOR_FAULT_TOMBSTONE", "nan"),
        ("GENERATOR_CUSTOMERS", "0"),
        ("GENERATOR_STORES", "1000001"),
        ("GENERATOR_NEW_PRODUCTS", "1.01"),
        ("GENERATOR_NEW_STORES", "nan"),
        ("LATENCY_MAX_S", "-0.1"),
        ("GENERATOR_PROFILE", "wild"),
        ("LATENCY_DISTRIBUTION", "normal"),
        ("METRICS_PORT", "70000"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load(GeneratorSettings)
    assert str(refusal.value).startswith(f"{name}={value!r} ")
    assert "allowed: " in str(refusal.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("with_hours", [False, True])
@pytest.mark.parametrize("rate", [0.00001, 50.0, 1_000_000.0])
def test_the_slots_of_every_allowed_rate_ascend_up_to_the_last_sale_that_is_allowed(
    rate: float, with_hours: bool
) -> None:
    schedule = Steady(1_772_352_000_000_000, rate, live=False, traffic=BURSTS, with_hours=with_hours)
    slots = [schedule.slot(n) for n in (0, 1, 10**6, 10**9, 10**12 - 1)]
    assert slots == sorted(slots)
    assert slots[0] >= 1_772_352_000_000_000


def test_a_variable_that_names_no_fault_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATOR_FAULT_NULL_EMIAL", "0.1")
    with pytest.raises(SettingsError, match=r"^GENERATOR_FAULT_NULL_EMIAL does not name a fault; allowed: .*_EMAIL"):
        load(GeneratorSettings)


def test_start_and_backfill_are_not_set_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GENERATOR_START_TIME", "GENERATOR_BACKFILL_FROM"):
        monkeypatch.setenv(name, "2026-03-01T08:00:00Z")
    with pytest.raises(SettingsError, match=r"^GENERATOR_START_TIME and GENERATOR_BACKFILL_FROM are both set; "):
        load(GeneratorSettings)


def test_a_profile_sets_all_faults_and_one_that_is_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(GeneratorSettings).faults == PROFILES[Profile.BRIEF]
    monkeypatch.setenv("GENERATOR_PROFILE", "hostile")
    monkeypatch.setenv("GENERATOR_FAULT_RETURN", "0")
    assert load(GeneratorSettings).faults == {**PROFILES[Profile.HOSTILE], Fault.RETURN: 0}
    assert all(set(p) == set(Fault) for p in PROFILES.values())


def test_the_size_and_the_share_of_a_dimension_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {e: load(GeneratorSettings).spec(e) for e in JOINED} == dict(SPECS)
    monkeypatch.setenv("GENERATOR_STORES", "7")
    monkeypatch.setenv("GENERATOR_NEW_STORES", "0.5")
    spec = load(GeneratorSettings).spec(Entity.STORES)
    assert (spec.size, spec.new_share) == (7, 0.5)
    assert load(GeneratorSettings).spec(Entity.PRODUCTS) == SPECS[Entity.PRODUCTS]


def test_a_seed_without_a_start_time_leaves_time_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATOR_SEED", "1")
    assert not load(GeneratorSettings).simulated
    monkeypatch.setenv("GENERATOR_START_TIME", "2026-03-01T08:00:00Z")
    assert load(GeneratorSettings).simulated


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "GENERATOR_SALES_PER_S",
            "1e-6",
            "GENERATOR_SALES_PER_S='1e-6' is neither 0 nor at least 0.00001; allowed: 0 (as",
        ),
        (
            "GENERATOR_START_TIME",
            "tomorrow",
            "GENERATOR_START_TIME='tomorrow' is not a valid time; allowed: an ISO 8601",
        ),
        (
            "GENERATOR_BACKFILL_FROM",
            "2026-11-28",
            "GENERATOR_BACKFILL_FROM='2026-11-28' has no time zone; allowed: an ISO",
        ),
    ],
)
def test_the_sentence_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load(GeneratorSettings)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("GENERATOR_SALES_PER_S", "-1", "GENERATOR_SALES_PER_S='-1' is out of range; allowed"),
        (
            "GENERATOR_START_TIME",
            "2999-01-01T00:00Z",
            "GENERATOR_START_TIME='2999-01-01T00:00Z' lies in the future, and",
        ),
    ],
)
def test_the_program_says_so_and_exits_with_two(name: str, value: str, sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.generator"],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
