"""The page and what it asks for, over HTTP: read-only, every error one sentence."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
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
from commands.dashboard.score import Score
from commands.dashboard.snapshot import Watch
from commands.dashboard.topics_tail import KEPT, Letters
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import RetailStreamError, Unavailable

STATIC = Path(__file__).parent / "static"
#: Everything comes from here, and nobody may frame it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
#: Between two looks that a page is sent.
_BETWEEN_S = 1.0
_LARGEST_ID = 2**31 - 1
_MOST_FOUND = 50
_LONGEST = 100


class Page:
    """The handlers; each reads, none writes."""

    def __init__(self, watch: Watch, engine: Engine, letters: Letters, score: Score, stop: threading.Event) -> None:
        """``stop``: ends the streams, so that the server can stop."""
        self._watch = watch
        self._engine = engine
        self._letters = letters
        self._score = score
        self._stop = stop

    async def live(self, request: Request) -> Response:
        """Server-sent events: first ``past`` (samples of broken rules), then a ``look`` each second."""

        async def events() -> AsyncIterator[bytes]:
            yield _event("past", list(self._watch.past))
            while not self._stop.is_set() and not await request.is_disconnected():
                yield _event("look", self._watch.now())
                await asyncio.sleep(_BETWEEN_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def look(self, _: Request) -> Response:
        """The last look."""
        return _json(self._watch.now())

    def letters(self, request: Request) -> Response:
        """The newest dead letters, decoded: ``entity``, ``rule``, ``limit``."""
        known(request, "entity", "rule", "limit")
        entity = request.query_params.get("entity")
        rule = words(request, "rule") or None
        limit = whole(request.query_params.get("limit", "20"), "limit", 1, KEPT)
        return _json(self._letters.newest(an_entity(entity, Entity) if entity else None, rule, limit))

    def keys(self, request: Request) -> Response:
        """Current keys of a dimension by the beginning of their id or a part of their name: ``q``, ``limit``."""
        known(request, "q", "limit")
        entity = an_entity(request.path_params["entity"], DIMENSIONS)
        limit = whole(request.query_params.get("limit", "10"), "limit", 1, _MOST_FOUND)
        with warehouse.session(self._engine) as connection:
            return _json(warehouse.find(connection, entity, words(request, "q"), limit))

    def history(self, request: Request) -> Response:
        """The versions of one key."""
        known(request)
        entity = an_entity(request.path_params["entity"], DIMENSIONS)
        number = whole(request.path_params["number"], "id", -_LARGEST_ID - 1, _LARGEST_ID)
        with warehouse.session(self._engine) as connection:
            found = warehouse.history(connection, entity, number)
        if found is None:
            raise HTTPException(404, f"There is no {entity.value.removesuffix('s')} {number} in the warehouse.")
        return _json(found)

    async def score(self, request: Request) -> Response:
        """Planted faults against handled ones, as they were last computed; 202 before the first time."""
        known(request)
        found = self._score.get()
        return _json(found, 200 if "at" in found else 202)

    async def ready(self, _: Request) -> Response:
        """200 once a look found every server."""
        look = self._watch.now()
        missing = [part for part in ("services", "flow", "delays", "stream") if part not in look]
        problems = list(dict.fromkeys(look["problems"].values()))
        problems = problems or (missing and [f"Not looked at yet: {', '.join(missing)}."])
        return PlainTextResponse(f"{' '.join(problems) or 'ready'}\n", 503 if problems else 200)


def app(page: Page, allowed_hosts: list[str]) -> ASGIApp:
    """Everything that is served. ``allowed_hosts``: other names in a request's Host are refused (DNS rebinding)."""

    # These take no thread, not even for a file: they answer, however many wait for Postgres.
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
        Route("/api/score", page.score),
        Route("/healthz", alive),
        Route("/readyz", page.ready),
        Route("/metrics", metrics),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts), Middleware(Headers)],
        exception_handlers={
            HTTPException: lambda _, e: _sentence(e.status_code, e.detail),  # type: ignore[dict-item,attr-defined]
            warehouse.TooSlow: lambda _, e: _sentence(503, str(e)),
            Unavailable: lambda _, e: _sentence(503, str(e)),
            RetailStreamError: lambda _, e: _sentence(500, str(e)),
            Exception: lambda _, e: _sentence(500, "The dashboard could not answer that; its log says why."),
        },
    )


class Headers:
    """Adds the headers that say what a browser may do with our answers."""

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


def an_entity(name: str, allowed: Any) -> Entity:
    """The entity of that name.

    Raises:
        HTTPException: 404, with the names that there are.
    """
    for entity in allowed:
        if entity.value == name:
            return entity
    raise HTTPException(404, f"There is no entity {_shown(name)} here; there are: {', '.join(allowed)}.")


def whole(written: str, name: str, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``.

    Raises:
        HTTPException: 400, with what is allowed.
    """
    digits = written.removeprefix("-")
    number = int(written) if digits.isascii() and digits.isdigit() and len(digits) <= 11 else None
    if number is None or not least <= number <= most:
        raise HTTPException(400, f"{name}={_shown(written)}; allowed: a whole number from {least} to {most}.")
    return number


def words(request: Request, name: str) -> str:
    """A text of the query, or the empty one.

    Raises:
        HTTPException: 400, if it is too long or holds what Postgres does not take.
    """
    written = request.query_params.get(name, "").strip()
    if len(written) > _LONGEST or not written.isprintable():
        raise HTTPException(400, f"{name}={_shown(written)}; allowed: up to {_LONGEST} printable characters.")
    return written


def known(request: Request, *names: str) -> None:
    """Refuse what would be ignored.

    Raises:
        HTTPException: 400, if the query has other names, or a name twice.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if strange := [n for n in given if n not in names or given.count(n) > 1]:
        allowed = ", ".join(names) or "none"
        raise HTTPException(400, f"Query parameter {_shown(strange[0])}; allowed, once each: {allowed}.")


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
        # With every digit: money is not for floats.
        return str(value)
    raise TypeError(f"{type(value)} is no JSON")
