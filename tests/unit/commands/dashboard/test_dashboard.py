"""The dashboard's pure parts: settings, states of services, query parameters and the histogram."""

import socket
from pathlib import Path

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from commands.dashboard import parameters, probes, topics_tail
from commands.dashboard.__main__ import listen
from commands.dashboard.delays import BOUNDS_S, histogram
from commands.dashboard.probes import Probes, Replica
from commands.dashboard.settings import DashboardSettings, parse_hosts, parse_services
from commands.dashboard.topics_tail import Letters
from commands.dlq.letters import Letter
from retail_stream.avro.registry import Registry
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import SettingsError, Unavailable
from retail_stream.service import metrics
from retail_stream.settings import load

SERVERS = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:9",
    "DATABASE_URL": "postgresql://reader@127.0.0.1:9/nothing",
}


def settings(**values: str) -> DashboardSettings:
    return DashboardSettings.model_validate({name.lower(): value for name, value in {**SERVERS, **values}.items()})


def test_services_are_named_with_their_addresses() -> None:
    assert parse_services("cleaner=127.0.0.1:9102, aggregator=aggregator:9100") == {
        "cleaner": ("127.0.0.1", 9102),
        "aggregator": ("aggregator", 9100),
    }


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("DASHBOARD_SERVICES", "cleaner", "which is not name=host:port; allowed: name=host:port["),
        ("DASHBOARD_SERVICES", "cleaner=host:0", "'cleaner=host:0'"),
        ("DASHBOARD_PORT", "70000", "a port from 1 to 65535"),
        ("DASHBOARD_DATABASE_URL", "mysql://x", "postgresql://"),
        ("DASHBOARD_ALLOWED_HOSTS", "foo*bar", "'foo*bar', which is not a name"),
        ("DASHBOARD_ALLOWED_HOSTS", "a,,b", "'', which is not a name"),
        ("DASHBOARD_HOST", "", "an address or name of this machine"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    for name, good in {**SERVERS, variable: value}.items():
        monkeypatch.setenv(name, good)
    with pytest.raises(SettingsError) as wrong:
        load(DashboardSettings)
    assert str(wrong.value).startswith(f"{variable}='{value}'")
    assert expected in str(wrong.value)


def test_hosts_may_begin_with_a_star() -> None:
    assert parse_hosts("*.example.com, localhost") == ["*.example.com", "localhost"]
    assert parse_hosts("*") == ["*"]


def test_a_wrong_host_and_a_taken_port_are_each_blamed_for_themselves() -> None:
    with pytest.raises(SettingsError, match=r"^DASHBOARD_HOST='no\.such\.invalid' cannot be used"):
        listen(settings(DASHBOARD_HOST="no.such.invalid"))
    with listen(settings(DASHBOARD_PORT="0")) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"^DASHBOARD_PORT={port} cannot be used"):
            listen(settings(DASHBOARD_PORT=str(port)))


def test_services_and_a_registry_of_this_machine_are_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    # Set here, so that monkeypatch restores it at the end.
    monkeypatch.setenv("no_proxy", "elsewhere")
    health = metrics.serve(0)
    health.needs()
    (replica,) = Probes({"cleaner": ("127.0.0.1", health.port)}).ask()["cleaner"]
    assert replica.state == "ready"
    # No registry, but it answers; through the proxy there would be no answer.
    with pytest.raises(Unavailable, match="answers with HTTP 404"):
        Registry(f"http://127.0.0.1:{health.port}").schema(1)


def test_a_replica_that_is_gone_from_dns_is_missing_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["10.0.0.1", "10.0.0.2"]

    def resolved(host: str, port: int, *_: object) -> list[object]:
        if not there:
            raise socket.gaierror
        return [(2, 1, 6, "", (address, port)) for address in there]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    probe = Probes({"cleaner": ("cleaner", 9100)})

    def at(now: float) -> list[str]:
        return probe._addresses("cleaner", "cleaner", 9100, now)

    assert at(0) == ["10.0.0.1:9100", "10.0.0.2:9100"]
    there.remove("10.0.0.1")
    assert at(59) == ["10.0.0.1:9100", "10.0.0.2:9100"]
    assert at(61) == ["10.0.0.2:9100"]
    there.clear()
    assert at(120) == ["10.0.0.2:9100"]
    assert at(122) == []


def test_replicas_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    hour = iter(range(100))
    rules = 'cleaner_rules_broken_total{action="warn",entity="sales",rule="odd"} 2.0\n'
    monkeypatch.setattr(probes, "_get", lambda *_: (rules, ""))
    probe = Probes({"cleaner": ("cleaner", 9100)})
    monkeypatch.setattr(probe, "_addresses", lambda *_: [f"10.0.0.{next(hour)}:9100"])
    for _ in range(100):
        assert probes.broken(probe.ask()) == {("sales", "warn", "odd"): 2.0}
    assert len(probe._broken) == 1


@pytest.mark.parametrize("metrics", ['cleaner_rules_broken_total{a="', 'cleaner_rules_broken_total{a="b"} 1', "<html>"])
def test_an_address_of_another_program_is_a_service_without_broken_rules(
    monkeypatch: pytest.MonkeyPatch, metrics: str
) -> None:
    monkeypatch.setattr(probes, "_get", lambda *_: (metrics, ""))
    (replica,) = Probes({"cleaner": ("127.0.0.1", 9)}).ask()["cleaner"]
    assert (replica.state, replica.broken) == ("ready", {})


def test_large_dead_letters_are_kept_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = Letters(settings(), Registry("http://127.0.0.1:9"))
    monkeypatch.setattr(topics_tail, "KEPT_BYTES", 1000)

    def take(entity: Entity, offset: int, size: int) -> None:
        letters._newest[entity].append(Letter(entity, 0, offset, offset, b"", bytes(size), ()))
        letters._forget()

    take(Entity.STORES, 0, 300)
    for offset in range(5):
        take(Entity.SALES, offset, 400)
    assert [x.offset for x in letters._newest[Entity.SALES]] == [4]
    assert [x.offset for x in letters._newest[Entity.STORES]] == [0]
    # The newest of an entity stays, however large it is.
    take(Entity.SALES, 5, 5000)
    assert [x.offset for x in letters._newest[Entity.SALES]] == [5]


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
    replicas = [Replica(f"10.0.0.{i}:9100", s, why="" if s == "ready" else f"{s} it is") for i, s in enumerate(states)]
    (row,) = probes.as_rows({"cleaner": replicas})
    why = next((f"{s} it is" for s in ("down", "starting") if s in states), "")
    counts = {"ready": states.count("ready"), "replicas": len(states)}
    assert row == {"name": "cleaner", "state": state, **counts, "why": why}


def test_a_service_that_is_down_is_named_with_its_last_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = tmp_path / "cleaner.log"

    def why() -> str:
        (replica,) = Probes({"cleaner": ("127.0.0.1", port)}, tmp_path).ask()["cleaner"]
        assert replica.state == "down"
        return replica.why

    alone = f"127.0.0.1:{port} does not answer (Connection refused)."
    assert why() == alone
    log.write_bytes(b"first\n" * 9999 + b"the ratio of rejects is 0.6\x1b[31m\n\n")
    assert why() == f"{alone} Its last line: the ratio of rejects is 0.6\\x1b[31m"
    log.write_bytes(b"x" * 99_999)
    assert len(why()) < 500


def test_a_service_that_is_not_ready_says_why() -> None:
    health = metrics.serve(0)
    health.needs(kafka=lambda: False, assigned=lambda: True)
    (replica,) = Probes({"cleaner": ("127.0.0.1", health.port)}).ask()["cleaner"]
    assert (replica.state, replica.why) == ("starting", f"127.0.0.1:{health.port} says: not ready: kafka.")


def test_broken_rules_are_summed_over_replicas() -> None:
    rule = ("customers", "default", "email_present")
    replicas = [Replica("a", "ready", {rule: 2.0}), Replica("b", "ready", {rule: 3.0}), Replica("c", "down")]
    assert probes.broken({"cleaner": replicas}) == {rule: 5.0}


@pytest.mark.parametrize(
    "written", ["", "-", "1.0", "1e3", "0x1", "²", "١", "2147483648", "-2147483649", " 1", "1" * 500]
)
def test_only_a_whole_number_within_the_bounds_is_accepted(written: str) -> None:
    with pytest.raises(HTTPException) as refused:
        parameters.parse_int(written, "id", -(2**31), 2**31 - 1)
    assert refused.value.status_code == 400
    assert "from -2147483648 to 2147483647" in refused.value.detail
    assert len(refused.value.detail) < 200


@pytest.mark.parametrize("number", [-(2**31), -1, 0, 2**31 - 1])
def test_a_whole_number_is_read(number: int) -> None:
    assert parameters.parse_int(str(number), "id", -(2**31), 2**31 - 1) == number


def test_an_unknown_entity_is_refused_with_the_allowed_ones() -> None:
    assert parameters.parse_entity("stores", DIMENSIONS) is Entity.STORES
    with pytest.raises(HTTPException, match="customers, products, stores") as refused:
        parameters.parse_entity("sales", DIMENSIONS)
    assert refused.value.status_code == 404


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


@pytest.mark.parametrize("query", ["b=1", "a=1&a=2", "A=1"])
def test_a_parameter_that_would_be_ignored_is_refused(query: str) -> None:
    parameters.only_parameters(request("a=1"), "a")
    with pytest.raises(HTTPException, match="allowed, once each: a"):
        parameters.only_parameters(request(query), "a")


@pytest.mark.parametrize(
    ("delays", "bar"),
    [([0.0], 0), ([-3.0], 0), ([0.5], 0), ([0.51], 1), ([300.0], len(BOUNDS_S) - 1), ([300.1, 1e9], len(BOUNDS_S))],
)
def test_a_delay_is_in_the_first_bar_that_is_not_below_it(delays: list[float], bar: int) -> None:
    bars = histogram(np.array(delays))
    assert bars["sampled"] == len(delays)
    assert [i for i, n in enumerate(bars["counts"]) if n] == [bar]


def test_no_sales_are_an_empty_histogram() -> None:
    assert histogram(np.array([])) == {"bounds_s": list(BOUNDS_S), "counts": [0] * (len(BOUNDS_S) + 1), "sampled": 0}


@pytest.mark.parametrize("written", ["%00", "a%0Ab", "x" * 101])
def test_words_are_short_and_printable(written: str) -> None:
    with pytest.raises(HTTPException) as refused:
        parameters.parse_text(request(f"q={written}"), "q")
    assert refused.value.status_code == 400
