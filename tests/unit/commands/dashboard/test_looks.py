"""The page's looks and answers while something hangs, runs for long, or fails: nobody waits, and it is named."""

import asyncio
import json
import os
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

from commands.dashboard import score as scores
from commands.dashboard import snapshot
from commands.dashboard.probes import Probes
from commands.dashboard.score import Score
from commands.dashboard.snapshot import Watch
from commands.dashboard.topics_tail import Delays
from commands.dashboard.web import Page, app
from retail_stream.avro.registry import Registry
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.settings import Connections
from tests.harness.eventually import eventually

SERVERS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://nobody@127.0.0.1:9/nothing",
)
ENGINE = create_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")


def watch(delays: Any = None) -> Watch:
    letters = SimpleNamespace(counts={}, total=0, skipped=0, look=lambda: None)
    late = SimpleNamespace(look=lambda: None, total=0)
    delays = delays or SimpleNamespace(look=lambda: None, histogram=dict, registry="http://127.0.0.1:9")
    found = Watch(SERVERS, ENGINE, Probes({}), letters, delays, late)  # type: ignore[arg-type]
    found._look_at_topics = lambda: {"flow": {}}  # type: ignore[method-assign]
    found._look_at_warehouse = lambda: {"stream": {}}  # type: ignore[method-assign]
    return found


def test_a_part_that_hangs_is_named_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LATE_S", 0.2)
    monkeypatch.setattr(snapshot, "LOOK_EVERY_S", 0.05)
    let_go, stop = threading.Event(), threading.Event()
    looks = watch()
    looks._look_at_warehouse = lambda: {"stream": {"hung": let_go.wait(30)}}  # type: ignore[method-assign]
    looks.start(stop)
    eventually(lambda: "warehouse" in looks.now()["problems"], "it comes true", 20)
    assert list(looks.now()["problems"]) == ["warehouse"]
    assert "Postgres at 127.0.0.1:9/nothing" in looks.now()["problems"]["warehouse"]
    let_go.set()
    eventually(lambda: looks.now()["problems"] == {}, "it comes true", 20)
    stop.set()


def test_a_registry_that_is_away_is_asked_once_and_named() -> None:
    delays = Delays(SERVERS, Registry("http://127.0.0.1:9"))
    message = SimpleNamespace(value=lambda: b"\0\0\0\0\7rest", timestamp=lambda: (1, 0))
    delays._tail = SimpleNamespace(news=lambda: iter([[message]]))  # type: ignore[assignment]
    looks = watch(delays)
    stop = threading.Event()
    looks.start(stop)
    eventually(lambda: "samples" in looks.now()["problems"], "it comes true", 20)
    stop.set()
    assert looks.now()["problems"]["samples"] == "The schema registry at http://127.0.0.1:9 does not answer."


def program(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


def test_a_score_waits_for_nobody_and_is_kept(tmp_path: Any) -> None:
    ran = tmp_path / "ran"
    source = f"import os; open({str(ran)!r}, 'a').write(os.environ['WHO']); print('{{\"faults\": [1]}}')"
    score = Score({"WHO": "reader "}, program(source))
    assert score.get() == {"computing": True}
    eventually(lambda: not score.get()["computing"], "it comes true", 20)
    assert score.get()["faults"] == [1]
    assert abs(score.get()["at"] - time.time()) < 30
    assert ran.read_text() == "reader "


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("import sys; sys.exit('retail-stream: Kafka at x does not answer.')", RetailStreamError, "ended with 1"),
        ("import sys; print('retail-stream: Kafka at x.', file=sys.stderr); sys.exit(2)", Unavailable, "^Kafka at x."),
    ],
)
def test_a_score_that_fails_says_why_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, source: str, kind: type[Exception], told: str
) -> None:
    score = Score({}, program(source))
    score.get()
    eventually(lambda: not score._computing, "it comes true", 20)
    with pytest.raises(kind, match=told):
        score.get()
    monkeypatch.setattr(scores, "ERROR_KEPT_S", 0.0)
    assert score.get() == {"computing": True}


def test_a_score_that_runs_is_killed_with_the_dashboard() -> None:
    score = Score({}, program("import time; time.sleep(600)"))
    score.get()
    eventually(lambda: score._process is not None, "it comes true", 20)
    assert score._process is not None
    pid = score._process.pid
    began = time.monotonic()
    score.stop()
    eventually(lambda: not score._computing, "it comes true", 20)
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def answer(page: Any, path: str) -> tuple[int, Any]:
    """Status and body of a GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "server": ("127.0.0.1", 1), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    # The server logs it, after it was answered.
    with suppress(ZeroDivisionError):
        asyncio.run(app(page, ["127.0.0.1"])(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent[1:]))


def test_every_error_is_one_sentence_of_json() -> None:
    def newest(*_: object) -> None:
        raise ZeroDivisionError

    page = Page(watch(), ENGINE, SimpleNamespace(newest=newest), Score({}), threading.Event())  # type: ignore[arg-type]
    status, body = answer(page, "/api/letters")
    assert (status, list(body)) == (500, ["error"])
    assert "its log says why" in body["error"]


def test_the_first_score_is_on_its_way() -> None:
    score = Score({}, program("import time; time.sleep(600)"))
    page = Page(watch(), ENGINE, SimpleNamespace(), score, threading.Event())  # type: ignore[arg-type]
    began = time.monotonic()
    assert [answer(page, "/api/score") for _ in range(50)] == [(202, {"computing": True})] * 50
    assert time.monotonic() - began < 10
    score.stop()
