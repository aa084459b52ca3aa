"""The page's snapshots and answers while a server hangs or fails: the others go on, and the page names it."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

from commands.dashboard import snapshot
from commands.dashboard.probes import Probes
from commands.dashboard.snapshot import Snapshots
from commands.dashboard.topics_tail import Delays
from retail_stream.avro.registry import Registry
from retail_stream.settings import Connections
from tests.harness.eventually import eventually

SERVERS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://reader@127.0.0.1:9/nothing",
)
ENGINE = create_engine("postgresql+psycopg://reader@127.0.0.1:9/nothing")


def fake_snapshots(delays: Any = None) -> Snapshots:
    letters = SimpleNamespace(counts={}, total=0, skipped=0, update=lambda: None)
    late = SimpleNamespace(update=lambda: None, total=0)
    delays = delays or SimpleNamespace(update=lambda: None, histogram=dict, registry="http://127.0.0.1:9")
    snapshots = Snapshots(SERVERS, ENGINE, Probes({}), letters, delays, late)  # type: ignore[arg-type]
    snapshots._read_topics = lambda: {"flow": {}, "lag": {}}  # type: ignore[method-assign]
    snapshots._read_warehouse = lambda: {"stream": {}}  # type: ignore[method-assign]
    return snapshots


def test_a_part_that_hangs_is_named_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LATE_S", 0.2)
    monkeypatch.setattr(snapshot, "READ_EVERY_S", 0.05)
    let_go, stop = threading.Event(), threading.Event()
    snapshots = fake_snapshots()
    snapshots._read_warehouse = lambda: {"stream": {"hung": let_go.wait(30)}}  # type: ignore[method-assign]
    snapshots.start(stop)
    eventually(lambda: "warehouse" in snapshots.now()["problems"], "it comes true", 20)
    assert list(snapshots.now()["problems"]) == ["warehouse"]
    assert "Postgres at 127.0.0.1:9/nothing" in snapshots.now()["problems"]["warehouse"]
    let_go.set()
    eventually(lambda: snapshots.now()["problems"] == {}, "it comes true", 20)
    stop.set()


def test_a_registry_that_is_away_is_asked_once_and_named() -> None:
    delays = Delays(SERVERS, Registry("http://127.0.0.1:9"))
    message = SimpleNamespace(value=lambda: b"\0\0\0\0\7rest", timestamp=lambda: (1, 0))
    delays._tail = SimpleNamespace(news=lambda: iter([[message]]))  # type: ignore[assignment]
    snapshots = fake_snapshots(delays)
    stop = threading.Event()
    snapshots.start(stop)
    eventually(lambda: "samples" in snapshots.now()["problems"], "it comes true", 20)
    stop.set()
    assert snapshots.now()["problems"]["samples"] == "The schema registry at http://127.0.0.1:9 does not answer."


def test_each_sample_is_kept_for_pages_that_open_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "EVERY_S", 1e-9)
    snapshots = fake_snapshots()
    rule = {"entity": "sales", "action": "reject", "rule": "valid_avro"}
    flow, letters = {"raw": {"total": 7, "per_s": 3.5}}, {"total": 0, "skipped": 0}
    first = {"services": [], "flow": flow, "lag": {"cleaner": 4}, "letters": letters, "rules": [{**rule, "total": 100}]}
    snapshots._update("topics", first, None)
    # A cleaner that restarts counts from zero again.
    for total in (110, 0):
        snapshots._update("services", {"services": [], "rules": [{**rule, "total": total}]}, None)
    series = snapshots.trends.columns()["series"]
    assert series["rate.raw"] == [3.5] * 3
    assert series["lag.cleaner"] == [4] * 3
    before, grown, restarted = series["rule.sales valid_avro reject"]
    assert before == restarted == 0 < grown
    assert snapshots.now()["sample"]["figures"]["rate.raw"] == 3.5
    assert snapshots.now()["verdict"]["level"] == "good"
