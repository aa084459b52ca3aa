"""The dashboard's small decisions: settings, states of services, what a request may say, and the histogram."""

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import SettingsError
from retail_stream.settings import load
from services.dashboard import probes, web
from services.dashboard.probes import Replica
from services.dashboard.settings import DashboardSettings, parse_services
from services.dashboard.topics_tail import BOUNDS_S, histogram

SERVERS = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:9",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
}


def test_services_are_named_with_their_addresses() -> None:
    assert parse_services("cleaner=127.0.0.1:9102, aggregator=aggregator:9100") == {
        "cleaner": ("127.0.0.1", 9102),
        "aggregator": ("aggregator", 9100),
    }


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DASHBOARD_SERVICES", "cleaner", "name=host:port"),
        ("DASHBOARD_SERVICES", "cleaner=host:0", "'cleaner=host:0'"),
        ("DASHBOARD_PORT", "70000", "a port from 1 to 65535"),
        ("DASHBOARD_DATABASE_URL", "mysql://x", "postgresql://"),
    ],
)
def test_a_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    for name, good in {**SERVERS, variable: value}.items():
        monkeypatch.setenv(name, good)
    with pytest.raises(SettingsError) as wrong:
        load(DashboardSettings)
    assert str(wrong.value).startswith(f"{variable}='{value}'")
    assert told in str(wrong.value)


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["ready"], "ready"),
        (["down"], "down"),
        (["starting"], "starting"),
        (["starting", "down"], "starting"),
        (["ready", "ready"], "ready"),
        (["ready", "down"], "degraded"),
        (["ready", "starting"], "degraded"),
        ([], "down"),
    ],
)
def test_a_service_is_as_good_as_its_replicas(states: list[str], state: str) -> None:
    (row,) = probes.as_rows({"cleaner": [Replica(f"10.0.0.{i}:9100", s) for i, s in enumerate(states)]})
    assert row == {"name": "cleaner", "state": state, "ready": states.count("ready"), "replicas": len(states)}


def test_broken_rules_are_summed_over_replicas() -> None:
    rule = ("customers", "default", "email_present")
    replicas = [Replica("a", "ready", {rule: 2.0}), Replica("b", "ready", {rule: 3.0}), Replica("c", "down")]
    assert probes.broken({"cleaner": replicas}) == {rule: 5.0}


@pytest.mark.parametrize(
    "written", ["", "-", "1.0", "1e3", "0x1", "²", "١", "2147483648", "-2147483649", " 1", "1" * 500]
)
def test_what_is_no_whole_number_in_bounds_is_refused(written: str) -> None:
    with pytest.raises(HTTPException) as refused:
        web.whole(written, "id", -(2**31), 2**31 - 1)
    assert refused.value.status_code == 400
    assert "from -2147483648 to 2147483647" in refused.value.detail
    assert len(refused.value.detail) < 200


@pytest.mark.parametrize("number", [-(2**31), -1, 0, 2**31 - 1])
def test_a_whole_number_is_read(number: int) -> None:
    assert web.whole(str(number), "id", -(2**31), 2**31 - 1) == number


def test_an_unknown_entity_is_told_which_there_are() -> None:
    assert web.an_entity("stores", DIMENSIONS) is Entity.STORES
    with pytest.raises(HTTPException, match="customers, products, stores") as refused:
        web.an_entity("sales", DIMENSIONS)
    assert refused.value.status_code == 404


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


@pytest.mark.parametrize("query", ["b=1", "a=1&a=2", "A=1"])
def test_a_parameter_that_would_be_ignored_is_refused(query: str) -> None:
    web.known(request("a=1"), "a")
    with pytest.raises(HTTPException, match="allowed, once each: a"):
        web.known(request(query), "a")


@pytest.mark.parametrize(
    ("delays", "bar"),
    [([0.0], 0), ([-3.0], 0), ([0.5], 0), ([0.51], 1), ([300.0], len(BOUNDS_S) - 1), ([300.1, 1e9], len(BOUNDS_S))],
)
def test_a_delay_is_in_the_first_bar_that_is_not_below_it(delays: list[float], bar: int) -> None:
    found = histogram(np.array(delays))
    assert found["sampled"] == len(delays)
    assert [i for i, n in enumerate(found["counts"]) if n] == [bar]


def test_no_sales_are_an_empty_histogram() -> None:
    found = histogram(np.array([]))
    assert found == {"bounds_s": list(BOUNDS_S), "counts": [0] * (len(BOUNDS_S) + 1), "sampled": 0}


@pytest.mark.parametrize("written", ["%00", "a%0Ab", "x" * 101])
def test_words_are_short_and_printable(written: str) -> None:
    with pytest.raises(HTTPException) as refused:
        web.words(request(f"q={written}"), "q")
    assert refused.value.status_code == 400
