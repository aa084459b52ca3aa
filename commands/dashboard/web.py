"""The page and its API over HTTP: read-only, every error one sentence."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from commands.dashboard import warehouse
from commands.dashboard.snapshot import Snapshots
from commands.dashboard.topics_tail import KEPT, Letters
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import RetailStreamError, Unavailable

STATIC = Path(__file__).parent / "static"
#: The page loads nothing from elsewhere, and no other page may frame it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
#: Seconds between two snapshots that a page is sent.
_BETWEEN_S = 1.0
_LARGEST_ID = 2**31 - 1
_MOST_FOUND = 50
_LONGEST = 100


class Page:
    """The handlers; each reads, none writes."""

    def __init__(self, snapshots: Snapshots, engine: Engine, letters: Letters, stop: threading.Event) -> None:
        """``stop``: ends the streams, so that the server can stop."""
        self._snapshots = snapshots
        self._engine = engine
        self._letters = letters
        self._stop = stop

    async def live(self, request: Request) -> Response:
        """Server-sent events: first ``past`` (samples of broken rules), then ``look`` (a snapshot) each second."""

        async def events() -> AsyncIterator[bytes]:
            yield _event("past", list(self._snapshots.past))
            while not self._stop.is_set() and not await request.is_disconnected():
                yield _event("look", self._snapshots.now())
                await asyncio.sleep(_BETWEEN_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def look(self, _: Request) -> Response:
        """The newest snapshot."""
        return _json(self._snapshots.now())

    def letters(self, request: Request) -> Response:
        """The newest dead letters, decoded: ``entity``, ``rule``, ``limit``."""
        only_parameters(request, "entity", "rule", "limit")
        entity = request.query_params.get("entity")
        rule = parse_text(request, "rule") or None
        limit = parse_int(request.query_params.get("limit", "20"), "limit", 1, KEPT)
        return _json(self._letters.newest(parse_entity(entity, Entity) if entity else None, rule, limit))

    def keys(self, request: Request) -> Response:
        """Current keys of a dimension by the beginning of their id or a part of their name: ``q``, ``limit``."""
        only_parameters(request, "q", "limit")
        entity = parse_entity(request.path_params["entity"], DIMENSIONS)
        limit = parse_int(request.query_params.get("limit", "10"), "limit", 1, _MOST_FOUND)
        with warehouse.session(self._engine) as connection:
            return _json(warehouse.find(connection, entity, parse_text(request, "q"), limit))

    def history(self, request: Request) -> Response:
        """The versions of one key."""
        only_parameters(request)
        entity = parse_entity(request.path_params["entity"], DIMENSIONS)
        number = parse_int(request.path_params["number"], "id", -_LARGEST_ID - 1, _LARGEST_ID)
        with warehouse.session(self._engine) as connection:
            versions = warehouse.history(connection, entity, number)
        if versions is None:
            raise HTTPException(404, f"The warehouse has no {entity.value.removesuffix('s')} {number}.")
        return _json(versions)

    async def ready(self, _: Request) -> Response:
        """200 once every server has answered."""
        now = self._snapshots.now()
        missing = [part for part in ("services", "flow", "delays", "stream") if part not in now]
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
        Route("/api/live", page.live),
        Route("/api/look", page.look),
        Route("/api/letters", page.letters),
        Route("/api/keys/{entity}", page.keys),
        Route("/api/history/{entity}/{number}", page.history),
        Route("/healthz", alive),
        Route("/readyz", page.ready),
        Route("/metrics", metrics),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts), Middleware(Headers)],
        exception_handlers={
            HTTPException: lambda _, e: _sentence(e.status_code, e.detail),
            warehouse.TooSlow: lambda _, e: _sentence(503, str(e)),
            Unavailable: lambda _, e: _sentence(503, str(e)),
            RetailStreamError: lambda _, e: _sentence(500, str(e)),
            Exception: lambda _, e: _sentence(500, "The dashboard failed to answer; see its log."),
        },
    )


class Headers:
    """Adds the headers that restrict what a browser does with our answers."""

    def __init__(self, inner: ASGIApp) -> None:
        """Around ``inner``."""
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *((n, v) for n, v in message["headers"]),
                    *((n.lower().encode(), v.encode()) for n, v in _HEADERS.items()),
                ]
            await send(message)

        await self._inner(scope, receive, add)


def parse_entity(name: str, allowed: Iterable[Entity]) -> Entity:
    """The entity of that name.

    Raises:
        HTTPException: 404, with the allowed names.
    """
    for entity in allowed:
        if entity.value == name:
            return entity
    raise HTTPException(404, f"{_shown(name)} is not an entity of this path; allowed: {', '.join(allowed)}.")


def parse_int(written: str, name: str, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``.

    Raises:
        HTTPException: 400, with the allowed range.
    """
    digits = written.removeprefix("-")
    number = int(written) if digits.isascii() and digits.isdigit() and len(digits) <= 11 else None
    if number is None or not least <= number <= most:
        raise HTTPException(
            400, f"{name}={_shown(written)} is not valid; allowed: a whole number from {least} to {most}."
        )
    return number


def parse_text(request: Request, name: str) -> str:
    """A text parameter of the query; empty if it is not given.

    Raises:
        HTTPException: 400, if it is too long or not printable; Postgres takes no U+0000.
    """
    written = request.query_params.get(name, "").strip()
    if len(written) > _LONGEST or not written.isprintable():
        raise HTTPException(
            400, f"{name}={_shown(written)} is not valid; allowed: up to {_LONGEST} printable characters."
        )
    return written


def only_parameters(request: Request, *names: str) -> None:
    """Refuse query parameters that would be ignored.

    Raises:
        HTTPException: 400, if the query has other names, or a name twice.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if strange := [n for n in given if n not in names or given.count(n) > 1]:
        allowed = ", ".join(names) or "none"
        raise HTTPException(400, f"Query parameter {_shown(strange[0])} is not valid; allowed, once each: {allowed}.")


def _shown(written: str) -> str:
    return repr(written if len(written) <= 40 else f"{written[:40]}…")


def _sentence(status: int, why: str) -> Response:
    return _json({"error": why}, status)


def _json(content: Any, status: int = 200) -> Response:
    return Response(_text(content), status, media_type="application/json")


def _event(name: str, content: Any) -> bytes:
    return f"event: {name}\ndata: {_text(content)}\n\n".encode()


def _text(content: Any) -> str:
    return json.dumps(content, default=_plain, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A string keeps every digit; a float would not.
        return str(value)
    raise TypeError(f"{type(value)} cannot be written as JSON")
