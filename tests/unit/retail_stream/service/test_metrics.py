"""The service's HTTP interface, and probes: what they answer, and that nobody waits for a server that hangs."""

import socket
import struct
import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from retail_stream.errors import SettingsError, Unavailable
from retail_stream.service.metrics import Gauges, Health, serve
from retail_stream.service.readiness import Probe
from tests.harness.endpoint import Endpoint
from tests.harness.eventually import eventually


@pytest.fixture(scope="module")
def served() -> tuple[Health, Endpoint]:
    health = serve(0)
    return health, Endpoint(health.port)


def test_it_is_alive_and_ready_while_every_condition_holds(served: tuple[Health, Endpoint]):
    health, at = served
    assert at.ask("/healthz") == (200, "ok\n")
    assert at.ask("/readyz") == (503, "not ready: started\n")
    holding = {"assigned": False, "kafka": False}
    health.needs(assigned=lambda: holding["assigned"], kafka=lambda: holding["kafka"])
    assert at.ask("/readyz") == (503, "not ready: assigned, kafka\n")
    holding["assigned"] = True
    assert at.ask("/readyz") == (503, "not ready: kafka\n")
    assert at.value("retail_stream_ready", condition="assigned") == 1
    assert at.value("retail_stream_ready", condition="kafka") == 0
    holding["kafka"] = True
    assert at.ask("/readyz?verbose") == (200, "ready\n")
    holding["assigned"] = False
    assert at.ask("/readyz") == (503, "not ready: assigned\n")


def test_what_is_not_there_says_what_is(served: tuple[Health, Endpoint]):
    assert served[1].ask("/") == (404, "not here; try /metrics, /healthz, /readyz\n")


def test_a_taken_port_falls_back_to_a_free_one(served: tuple[Health, Endpoint]):
    other = serve(served[0].port)
    assert other.port not in (0, served[0].port)
    assert Endpoint(other.port).ask("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("host", "told"), [("", "an address or name of this machine"), ("no.such.invalid", "cannot be listened on")]
)
def test_a_wrong_host_is_one_sentence_and_no_taken_port(monkeypatch: pytest.MonkeyPatch, host: str, told: str):
    monkeypatch.setenv("METRICS_HOST", host)
    with pytest.raises(SettingsError, match=f"^METRICS_HOST='{host}' .*{told}"):
        serve(0)


def test_a_scraper_that_hangs_up_is_not_worth_a_line(
    served: tuple[Health, Endpoint], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    for _ in range(20):
        scraper = socket.create_connection(("127.0.0.1", served[0].port))
        scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        # A reset, not an end.
        scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scraper.close()
    assert served[1].ask("/healthz")[0] == 200
    eventually(
        lambda: not any("process_request_thread" in t.name for t in threading.enumerate()),
        "it comes true",
        20,
        every_s=0.005,
    )
    assert (capfd.readouterr().err, caplog.text) == ("", "")


def test_a_gauge_whose_partition_is_gone_has_no_sample():
    registry = CollectorRegistry()
    lag = Gauges("lag_records", "Behind", "topic", "partition", registry=registry)
    assert b"lag_records" in generate_latest(registry)
    lag.read = lambda: {("sales.raw", "0"): 3.0, ("sales.raw", "1"): 0.0}
    assert b'lag_records{partition="1",topic="sales.raw"} 0.0' in generate_latest(registry)
    lag.read = lambda: {("sales.raw", "0"): 3.0}
    assert b'partition="1"' not in generate_latest(registry)
    assert b'lag_records{partition="0",topic="sales.raw"} 3.0' in generate_latest(registry)


def test_a_probe_asks_again_only_when_its_answer_is_old():
    asked: list[int] = []
    often, seldom = Probe(lambda: asked.append(1), fresh_s=0), Probe(lambda: asked.append(2), fresh_s=3600)
    assert [often(), often(), seldom(), seldom()] == [True] * 4
    assert asked == [1, 1, 2]


def test_a_probe_says_no_while_the_server_is_away_and_yes_when_it_is_back():
    away = [True]

    def ask() -> None:
        if away:
            raise Unavailable("Kafka does not answer.")

    probe = Probe(ask, fresh_s=0)
    assert not probe()
    away.clear()
    eventually(probe, "it comes true", 20, every_s=0.005)


def test_a_question_that_fails_in_another_way_is_no_answer(monkeypatch: pytest.MonkeyPatch):
    fails, crashed = threading.Event(), []
    monkeypatch.setattr(threading, "excepthook", crashed.append)

    def ask() -> None:
        if fails.is_set():
            raise RuntimeError("a password was changed")

    probe = Probe(ask, fresh_s=0)
    eventually(probe, "it comes true", 20, every_s=0.005)
    fails.set()
    eventually(lambda: not probe(), "it comes true", 20, every_s=0.005)
    assert crashed


def test_nobody_waits_long_and_one_question_at_a_time_hangs():
    hanging, asked = threading.Event(), []
    let_go = threading.Event()

    def ask() -> None:
        asked.append(1)
        if hanging.is_set():
            let_go.wait(60)

    probe = Probe(ask, fresh_s=0, patience_s=0.5, wait_s=0.01)
    eventually(probe, "it comes true", 20, every_s=0.005)
    hanging.set()
    began = time.monotonic()
    # It answered a moment ago; then its patience is over.
    eventually(lambda: not probe(), "it comes true", 20, every_s=0.005)
    assert time.monotonic() - began >= 0.5
    questions = len(asked)
    assert [probe() for _ in range(5)] == [False] * 5
    assert len(asked) == questions
    hanging.clear()
    let_go.set()
    eventually(probe, "it comes true", 20, every_s=0.005)
