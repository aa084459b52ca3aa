"""The page and its API over HTTP: read-only, every error one sentence."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection, Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from commands.dashboard import records, warehouse, windows
from commands.dashboard.answers import as_json, sentence
from commands.dashboard.fresh import Fresh
from commands.dashboard.guards import Headers, SameSite
from commands.dashboard.parameters import only_parameters, parse_entity, parse_int, parse_text, shown
from commands.dashboard.snapshot import Snapshots
from commands.dashboard.stream import Streams
from commands.dashboard.topics_tail import KEPT, Letters
from commands.dashboard.turns import Busy, Turns
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import RetailStreamError, Unavailable

STATIC = Path(__file__).parent / "static"
#: Seconds for which many pages share an answer, and requests that read Postgres at a time.
_FRESH_S, _AT_ONCE = 1.0, 4
_LARGEST_ID, _LARGEST_OFFSET, _LARGEST_PARTITION = 2**31 - 1, 2**53 - 1, 10**6
_MOST_FOUND, _MOST_RECORDS, _MOST_WINDOWS = 50, 100, 1000


class Page:
    """The handlers; each reads, none writes."""

    def __init__(
        self, snapshots: Snapshots, engine: Engine, letters: Letters, topics: records.Records, stop: threading.Event
    ) -> None:
        """``engine``: not that of the snapshots, which never wait for the requests of pages.

        ``stop``: ends the streams, so that the server can stop.
        """
        self._snapshots = snapshots
        self._engine = engine
        self._letters = letters
        self._topics = topics
        self._fresh = Fresh(_FRESH_S)
        self._turns = Turns(_AT_ONCE, "the warehouse")
        self.streams = Streams(snapshots, stop)

    async def look(self, _: Request) -> Response:
        """The newest snapshot."""
        return Response(self.streams.look(), media_type="application/json")

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with self._turns.one(), warehouse.session(self._engine) as connection:
            yield connection

    def windows(self, request: Request) -> Response:
        """The newest windows of a size: ``size``, ``last`` (how many), ``by`` (a name of the snapshot's groupings)."""
        only_parameters(request, "size", "last", "by")
        size = parse_text(request, "size")
        last = parse_int(request.query_params.get("last", "40"), "last", 1, _MOST_WINDOWS)
        by = parse_text(request, "by") or None

        def read() -> Any:
            with self._session() as connection:
                return windows.some(connection, size, last, by)

        # Grouping a long range takes a second of Postgres' time.
        try:
            return as_json(self._fresh.get((size, last, by), read))
        except ValueError as wrong:
            raise HTTPException(404, str(wrong)) from wrong

    def letters(self, request: Request) -> Response:
        """The newest dead letters, decoded: ``entity``, ``rule``, ``limit``."""
        only_parameters(request, "entity", "rule", "limit")
        written = request.query_params.get("entity")
        entity = parse_entity(written, Entity) if written else None
        rule = parse_text(request, "rule") or None
        limit = parse_int(request.query_params.get("limit", "20"), "limit", 1, KEPT)
        # Every page asks again when one has come.
        asked = (entity, rule, limit, self._letters.total)
        return as_json(self._fresh.get(asked, lambda: self._letters.newest(entity, rule, limit)))

    def records(self, request: Request) -> Response:
        """Records of a topic, decoded: ``key``, ``partition``, ``offset`` (from there on), ``limit``."""
        only_parameters(request, "key", "partition", "offset", "limit")
        topic = request.path_params["topic"]
        if topic not in records.NAMES:
            raise HTTPException(
                404, f"{shown(topic)} is not a topic of the pipeline; allowed: {', '.join(records.NAMES)}."
            )
        given = request.query_params
        partition, offset = (
            parse_int(given[name], name, 0, most) if given.get(name) else None
            for name, most in (("partition", _LARGEST_PARTITION), ("offset", _LARGEST_OFFSET))
        )
        limit = parse_int(given.get("limit", "20"), "limit", 1, _MOST_RECORDS)
        key = parse_text(request, "key") or None
        return as_json(self._topics.newest(topic, key=key, partition=partition, offset=offset, most=limit))

    def partitions(self, request: Request) -> Response:
        """The partitions that groups read, with first and end offset and the group's position."""
        only_parameters(request)
        return as_json(self._topics.partitions())

    def keys(self, request: Request) -> Response:
        """Current keys of a dimension by the beginning of their id or a part of their name: ``q``, ``limit``."""
        only_parameters(request, "q", "limit")
        entity = parse_entity(request.path_params["entity"], DIMENSIONS)
        limit = parse_int(request.query_params.get("limit", "10"), "limit", 1, _MOST_FOUND)
        words = parse_text(request, "q")
        with self._session() as connection:
            return as_json(warehouse.find(connection, entity, words, limit))

    def history(self, request: Request) -> Response:
        """The versions of one key."""
        only_parameters(request)
        entity = parse_entity(request.path_params["entity"], DIMENSIONS)
        number = parse_int(request.path_params["number"], "id", -_LARGEST_ID - 1, _LARGEST_ID)
        with self._session() as connection:
            versions = warehouse.history(connection, entity, number)
        if versions is None:
            raise HTTPException(404, f"The warehouse has no {entity.value.removesuffix('s')} {number}.")
        return as_json(versions)

    async def ready(self, _: Request) -> Response:
        """200 once every server has answered."""
        now = self._snapshots.now()
        missing = [part for part in ("services", "flow", "letters", "delays", "stream") if part not in now]
        problems = list(dict.fromkeys(now["problems"].values()))
        problems = problems or (missing and [f"Not read yet: {', '.join(missing)}."])
        return PlainTextResponse(f"{' '.join(problems) or 'ready'}\n", 503 if problems else 200)


def app(page: Page, allowed_hosts: list[str]) -> ASGIApp:
    """The application. It refuses requests whose Host is not one of ``allowed_hosts`` (against DNS rebinding)."""

    # These take no thread, not even for a file, so they answer while every thread waits for Postgres.
    page_itself = (STATIC / "index.html").read_bytes()

    async def index(_: Request) -> Response:
        return Response(page_itself, media_type="text/html")

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/", index),
        Route("/api/live", page.streams),
        Route("/api/look", page.look),
        Route("/api/windows", page.windows),
        Route("/api/letters", page.letters),
        Route("/api/records/{topic}", page.records),
        Route("/api/partitions", page.partitions),
        Route("/api/keys/{entity}", page.keys),
        Route("/api/history/{entity}/{number}", page.history),
        Route("/healthz", alive),
        Route("/readyz", page.ready),
        Route("/metrics", metrics),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts),
            Middleware(Headers),
            Middleware(SameSite),
        ],
        exception_handlers={
            HTTPException: lambda _, e: sentence(e.status_code, e.detail),
            warehouse.TooSlow: lambda _, e: sentence(503, str(e)),
            Busy: lambda _, e: sentence(503, str(e)),
            Unavailable: lambda _, e: sentence(503, str(e)),
            RetailStreamError: lambda _, e: sentence(500, str(e)),
            Exception: lambda _, e: sentence(500, "The dashboard failed to answer; see its log."),
        },
    )
