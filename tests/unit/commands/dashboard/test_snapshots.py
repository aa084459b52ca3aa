"""The page's snapshots and answers while a server hangs or fails: the others go on, and the page names it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

from commands.dashboard import snapshot
from commands.dashboard.delays import Delays
from commands.dashboard.probes import Probes
from commands.dashboard.snapshot import Snapshots
from retail_stream.avro.registry import Registry
from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.topics import Group
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
    snapshots._letters.total = 5
    stop = threading.Event()
    snapshots.start(stop)
    eventually(lambda: "samples" in snapshots.now()["problems"], "it comes true", 20)
    eventually(lambda: "letters" in snapshots.now(), "dead letters are counted without it", 20)
    stop.set()
    assert snapshots.now()["problems"] == {"samples": "The schema registry at http://127.0.0.1:9 does not answer."}
    assert snapshots.now()["letters"]["total"] == 5


def test_a_lag_of_a_moment_is_not_shown_and_the_total_of_records_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lag = iter(range(0, 100, 2)), 0
    places = [("sales.clean", 0)]
    for name, fake in {
        "topic_partitions": lambda *_: places,
        "end_offsets": lambda *_: {("sales.clean", 0): 1000},
        "lags": lambda *_: {Group.CLEANER: lag, Group.SCD_MERGER: 0, Group.AGGREGATOR: lag},
    }.items():
        monkeypatch.setattr(snapshot, name, fake)
    monkeypatch.setattr(snapshot.warehouse, "session", nullcontext)
    monkeypatch.setattr(snapshot.warehouse, "stored_positions", lambda _: {})
    snapshots = fake_snapshots()
    least = snapshots._least.next
    monkeypatch.setattr(snapshots._least, "next", lambda _, read: least(next(clock), read))
    snapshots._arrivals = lambda: 0  # type: ignore[assignment]
    shown = []
    # Every two seconds.
    for lag in (5, 533, 7, 533, 533, 533):
        read = Snapshots._read_topics(snapshots)
        shown.append(read["lag"]["aggregator"])
        assert read["flow"]["raw"]["total"] == 1000 + lag
    assert shown == [5, 5, 5, 7, 7, 533]


def test_rates_and_lag_go_on_while_postgres_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def session(_: object) -> Iterator[None]:
        if away:
            raise Unavailable("Postgres is away.")
        yield

    monkeypatch.setattr(snapshot, "topic_partitions", lambda *_: [])
    monkeypatch.setattr(snapshot, "end_offsets", lambda *_: {})
    ends = iter((10, 14, 20))
    monkeypatch.setattr(snapshot, "lags", lambda _, stored: dict.fromkeys(Group, next(ends) - stored["passed"]))
    monkeypatch.setattr(snapshot.warehouse, "session", session)
    monkeypatch.setattr(snapshot.warehouse, "stored_positions", lambda _: {"passed": 10})
    snapshots = fake_snapshots()
    snapshots._arrivals = lambda: 0  # type: ignore[assignment]
    away = ["Postgres"]
    with pytest.raises(Unavailable):
        Snapshots._read_topics(snapshots)
    # The total has what was read, the lag the least of some seconds.
    away.clear()
    assert Snapshots._read_topics(snapshots)["flow"]["raw"]["total"] == 0
    away.append("Postgres")
    assert [Snapshots._read_topics(snapshots)["flow"]["raw"]["total"] for _ in range(2)] == [4, 10]


def test_a_clock_that_is_set_back_does_not_stop_the_trends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [5000.0]
    monkeypatch.setattr(snapshot.time, "time", lambda: clock[-1])
    snapshots = fake_snapshots()
    values = {"services": [], "flow": {}, "lag": {}, "letters": {"total": 0, "skipped": 0}}
    for at in (5000.0, 5002.0, 5004.0, 1400.0, 1402.0):
        clock.append(at)
        snapshots._update("topics", values, None)
    assert snapshots.trends.columns()["at"] == [1400.0, 1402.0]
    assert snapshots.now()["verdict"]["since"] == 1400.0


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
