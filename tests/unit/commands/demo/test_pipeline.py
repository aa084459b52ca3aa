"""Where `up` and `demo` put the page and the services' metrics."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from commands.demo import pipeline
from commands.demo import run as demo
from commands.demo.pipeline import METRICS_PORTS, Pipeline, Service
from retail_stream.errors import SettingsError
from services.aggregator.settings import AggregatorSettings
from services.cleaner.settings import CleanerSettings
from services.generator.settings import GeneratorSettings
from services.scd_merger.settings import MergerSettings


def test_the_usual_ports_are_the_services_own_defaults() -> None:
    settings = (GeneratorSettings, CleanerSettings, MergerSettings, AggregatorSettings)
    assert list(METRICS_PORTS.values()) == [s.model_fields["metrics_port"].default for s in settings]


def test_a_usual_port_is_used_where_it_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline, "is_free", lambda port: port != METRICS_PORTS[Service.CLEANER])
    ports = Pipeline(cast("Any", None), {}, tmp_path, usual_ports=True).metrics_ports
    assert {s for s in Service if ports[s] == METRICS_PORTS[s]} == set(Service) - {Service.CLEANER}
    assert ports[Service.CLEANER] not in METRICS_PORTS.values()


def test_the_pages_port_is_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_PORT", "abc")
    with pytest.raises(SettingsError, match=r"DASHBOARD_PORT='abc' is not a whole number; allowed: a port"):
        demo._dashboard_port()
    monkeypatch.setenv("DASHBOARD_PORT", "8765")
    assert demo._dashboard_port() == 8765


class Page:
    """A process that runs, or ended."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def last_lines(self, _: int) -> str:
        return "DASHBOARD_PORT=80: it is taken."


def where(code: int | None, port: int, patience_s: float) -> str:
    return demo._where(cast("Any", SimpleNamespace(dashboard=Page(code))), f"http://127.0.0.1:{port}", patience_s)


def test_it_says_watch_it_only_of_a_page_that_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert where(None, port, 5) == f"Watch it at http://127.0.0.1:{port}"
    assert where(2, port, 5) == "There is no page to watch: DASHBOARD_PORT=80: it is taken."
    assert where(None, port, 0.1).startswith("The page has not started within 0 s; it will be at http://")
