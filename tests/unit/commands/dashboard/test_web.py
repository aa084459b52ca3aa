"""The page over HTTP: bad input is one sentence, other sites are refused, and clients are bounded."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

from commands.dashboard import records, stream, turns, warehouse
from commands.dashboard.records import Records
from commands.dashboard.stream import Streams
from commands.dashboard.turns import Busy, Turns
from commands.dashboard.web import Page, app
from retail_stream.errors import Unavailable
from retail_stream.settings import Connections

ENGINE = create_engine("postgresql+psycopg://reader@127.0.0.1:9/nothing")
SERVERS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://reader@127.0.0.1:9/nothing",
)


def page(letters: Any = None, topics: Any = None) -> Page:
    snapshots = SimpleNamespace(now=lambda: {"at": 1.0, "problems": {}}, trends=SimpleNamespace(columns=dict))
    return Page(snapshots, ENGINE, letters, topics, threading.Event())  # type: ignore[arg-type]


def answer(asked: Page, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, Any, Any]:
    """Status, body and headers."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def served() -> None:
        await app(asked, ["127.0.0.1"])(scope, receive, send)

    path, _, query = path.partition("?")
    given = {"host": "127.0.0.1:8080", **(headers or {})}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "server": ("127.0.0.1", 8080), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    # The application raises it again after the answer, for the server's log.
    with suppress(ZeroDivisionError):
        asyncio.run(served())
    body = b"".join(m.get("body", b"") for m in sent[1:])
    kind = {n.decode().lower(): v.decode() for n, v in sent[0]["headers"]}
    return sent[0]["status"], json.loads(body) if "json" in kind.get("content-type", "") else body, kind


def test_every_error_is_one_sentence_of_json() -> None:
    def newest(*_: object) -> None:
        raise ZeroDivisionError

    status, body, _ = answer(page(SimpleNamespace(newest=newest, total=1)), "/api/letters")
    assert (status, list(body)) == (500, ["error"])
    assert "see its log" in body["error"]


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("/api/history/customers/1;DROP TABLE dim_customers", 400, "1;DROP TABLE"),
        ("/api/history/customers/99999999999999999999", 400, "2147483647"),
        ("/api/history/sales/1", 404, "customers, products, stores"),
        ("/api/history/customers/1?as_of=now", 400, "as_of"),
        ("/api/keys/products?limit=1000000", 400, "from 1 to 50"),
        ("/api/keys/products?q=" + "x" * 101, 400, "100 printable"),
        ("/api/keys/products?q=%00", 400, "printable"),
        ("/api/letters?limit=-1", 400, "from 1 to 200"),
        ("/api/letters?limit=1e3", 400, "'1e3'"),
        ("/api/letters?entity=orders", 404, "sales, customers"),
        ("/api/letters?limit=1&limit=2", 400, "once each"),
        ("/api/records/__consumer_offsets", 404, "sales.raw"),
        ("/api/records/sales.raw?offset=-1", 400, "from 0 to"),
        ("/api/records/sales.raw?limit=101", 400, "from 1 to 100"),
        ("/api/records/sales.raw?until=now", 400, "key, partition, offset, limit"),
        ("/api/windows?size=1m&last=0", 400, "from 1 to 1000"),
        ("/api/nothing", 404, "Not Found"),
        ("/static/../settings.py", 404, "Not Found"),
    ],
)
def test_bad_input_gets_one_sentence(path: str, status: int, names: str) -> None:
    code, body, _ = answer(page(), path)
    assert (code, list(body)) == (status, ["error"])
    assert names in body["error"]
    assert "\n" not in body["error"]


def test_other_methods_and_other_names_of_the_host_are_refused() -> None:
    assert answer(page(), "/api/look")[0] == 200
    assert answer(page(), "/api/look", method="POST")[0] == 405
    assert answer(page(), "/api/look", {"host": "evil.example"})[0] == 400


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/look", {}, 200),
        ("/api/look", {"sec-fetch-site": "same-origin"}, 200),
        ("/api/look", {"sec-fetch-site": "none"}, 200),
        ("/api/look", {"sec-fetch-site": "cross-site"}, 403),
        # Another port of this machine is another program.
        ("/api/look", {"sec-fetch-site": "same-site"}, 403),
        ("/static/dashboard.css", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("/api/look", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        # Browsers without Sec-Fetch-Site.
        ("/api/look", {"origin": "http://127.0.0.1:8080"}, 200),
        ("/api/look", {"origin": "http://evil.example"}, 403),
        ("/api/look", {"origin": "null"}, 403),
        # A proxy that ends TLS: our scheme is another one than the browser's.
        ("/api/look", {"origin": "https://127.0.0.1:8080", "sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_what_another_site_asks_for_is_refused(path: str, headers: dict[str, str], status: int) -> None:
    code, _, given = answer(page(), path, headers)
    assert code == status
    assert given["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in given["content-security-policy"]


def test_a_page_more_than_the_most_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 0)
    code, body, _ = answer(page(), "/api/live")
    assert code == 503
    assert "close one" in body["error"]
    assert answer(page(), "/api/live", method="POST")[0] == 405


class Client:
    """A page that opens the stream, and reads the first ``reads`` parts of it."""

    def __init__(self, reads: int) -> None:
        self.reads = reads
        self.status = 0
        self.parts: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.parts.append(message.get("body", b""))
        if len(self.parts) > self.reads:
            await asyncio.sleep(3600)

    async def opens(self, streams: Streams) -> None:
        await streams({"type": "http", "method": "GET", "path": "/api/live"}, self.receive, self.send)


def test_a_page_that_has_stopped_reading_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_S", 0.05)
    monkeypatch.setattr(stream, "BETWEEN_S", 0.001)
    streams = page().streams

    async def opened() -> None:
        async with asyncio.timeout(60):
            await Client(reads=5).opens(streams)

    asyncio.run(opened())
    assert streams._open == 0


def test_pages_that_open_at_the_same_moment_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 3)
    streams = page().streams
    clients = [Client(reads=9) for _ in range(20)]

    async def opened() -> None:
        tasks = [asyncio.create_task(c.opens(streams)) for c in clients]
        while not all(c.status for c in clients):
            await asyncio.sleep(0.001)
        streams._stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)

    asyncio.run(opened())
    assert sorted(c.status for c in clients) == [200] * 3 + [503] * 17
    assert streams._open == 0


def test_a_snapshot_is_written_once_for_all_pages() -> None:
    asked = page()
    now = {"at": 1.0, "problems": {}}
    asked._snapshots.now = lambda: now  # type: ignore[method-assign]
    assert asked.streams.look() is asked.streams.look()
    now = {"at": 2.0, "problems": {}}
    assert b'"at":2.0' in asked.streams.look()


def test_requests_that_read_the_warehouse_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_WAIT_S", 0.05)
    let_go, inside = threading.Event(), threading.Semaphore(0)

    @contextmanager
    def slow(_: object) -> Iterator[None]:
        inside.release()
        assert let_go.wait(60)
        raise Unavailable("Postgres is away.")
        yield

    monkeypatch.setattr(warehouse, "session", slow)
    asked = page()
    with ThreadPoolExecutor(8) as pages:
        first = [pages.submit(answer, asked, f"/api/history/stores/{i}") for i in range(4)]
        for _ in first:
            assert inside.acquire(timeout=60)
        for path in ("/api/history/stores/9", "/api/keys/stores?q=x", "/api/windows?size=1m"):
            code, body, _ = answer(asked, path)
            assert (code, "try again" in body["error"]) == (503, True)
        let_go.set()
        assert [f.result(60)[1]["error"] for f in first] == ["Postgres is away."] * 4


def test_dead_letters_are_decoded_once_for_all_pages_and_again_when_one_has_come() -> None:
    letters = SimpleNamespace(total=7, decoded=0)

    def newest(*_: object) -> list[Any]:
        letters.decoded += 1
        return []

    letters.newest = newest
    asked = page(letters)
    for _ in range(5):
        assert answer(asked, "/api/letters?limit=20")[0] == 200
    assert letters.decoded == 1
    letters.total = 8
    answer(asked, "/api/letters?limit=20")
    assert letters.decoded == 2


def test_searches_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Records(SERVERS, ENGINE, lambda _: None)
    monkeypatch.setattr(topics, "_turns", Turns(1, "topics"))
    monkeypatch.setattr(turns, "_WAIT_S", 0.05)
    monkeypatch.setattr(records, "topic_partitions", lambda *_: (_ for _ in ()).throw(Unavailable("Kafka is away.")))
    asked: dict[str, Any] = {"key": None, "partition": None, "offset": None, "most": 1}
    for _ in range(3):
        with pytest.raises(Unavailable):
            topics.newest("sales.raw", **asked)
    with topics._turns.one(), pytest.raises(Busy, match="try again"):
        topics.newest("sales.raw", **asked)


@pytest.mark.parametrize(
    "name", ["Ægir Ólafsdóttir", "李小龍", "نرگس\u200cخانم", "Nguye\u0302\u0303n", "👩🏽\u200d🌾", "O'Brien-D’Arcy"]
)
def test_names_of_all_the_world_are_taken(name: str) -> None:
    from urllib.parse import quote

    code, body, _ = answer(page(), f"/api/keys/customers?q={quote(name)}")
    assert (code, "Postgres" in body["error"]) == (503, True), "it went on to Postgres, which is away"
