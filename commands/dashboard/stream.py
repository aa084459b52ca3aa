"""The stream of snapshots that an open page listens to."""

import asyncio
import threading
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from commands.dashboard.answers import event, sentence, written
from commands.dashboard.snapshot import Snapshots

#: Seconds between two snapshots that a page is sent.
BETWEEN_S = 1.0
#: Open pages; each costs a connection and some memory.
MOST_STREAMS = 200
#: Seconds that a page may take to read a snapshot. One that has stopped reading would keep its place for good.
MOST_S = 20.0


class Streams:
    """Server-sent events: first ``past`` (the trends), then ``look`` (a snapshot) each second."""

    def __init__(self, snapshots: Snapshots, stop: threading.Event) -> None:
        """``stop``: ends the streams."""
        self._snapshots = snapshots
        self._stop = stop
        self._open = 0
        self._look: tuple[Any, bytes, bytes] = (None, b"", b"")

    def look(self) -> bytes:
        """The newest snapshot as JSON, written once for all pages."""
        return self._written()[1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the stream."""
        if scope["method"] != "GET":
            return await sentence(405, "Method Not Allowed")(scope, receive, send)
        if self._open >= MOST_STREAMS:
            refused = sentence(503, f"{MOST_STREAMS} pages are open, which is the most; close one.")
            return await refused(scope, receive, send)
        self._open += 1
        try:
            await self._stream(Request(scope, receive), send)
        finally:
            self._open -= 1

    async def _stream(self, request: Request, send: Send) -> None:
        async def say(body: bytes) -> None:
            async with asyncio.timeout(MOST_S):
                await send({"type": "http.response.body", "body": body, "more_body": True})

        kind = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        try:
            await say(event("past", written(self._snapshots.trends.columns())))
            while not self._stop.is_set() and not await request.is_disconnected():
                await say(self._written()[2])
                await asyncio.sleep(BETWEEN_S)
        except TimeoutError:
            return
        await send({"type": "http.response.body", "body": b""})

    def _written(self) -> tuple[Any, bytes, bytes]:
        """The newest snapshot, and it as JSON and as an event."""
        now = self._snapshots.now()
        if self._look[0] is not now:
            content = written(now)
            self._look = (now, content, event("look", content))
        return self._look
