"""Open pages of the dashboard without browsers: they ask for what the page's modules ask for, and draw nothing."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

#: Seconds between two tables of partitions and two readings of grouped windows, as in `static/panels`.
_PARTITIONS_S, _WINDOWS_S = 5.0, 3.0
_TOTAL = re.compile(rb'"letters":\{"total":(\d+)')


class Pages:
    """Pages that stay open in a thread of their own. One in five shows windows by category."""

    def __init__(self, url: str, number: int) -> None:
        """Opens ``number`` of them; each tries again while the dashboard does not answer."""
        address = urlsplit(url)
        self._at = (address.hostname, address.port)
        self.number = number
        self._seen = [0] * number
        self._cpu = 0.0
        threading.Thread(target=lambda: asyncio.run(self._open()), daemon=True).start()

    @property
    def snapshots(self) -> int:
        """Snapshots that all pages have read."""
        return sum(self._seen)

    @property
    def cpu_s(self) -> float:
        """Seconds of a processor that the pages themselves have used."""
        return self._cpu

    async def _open(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for page in range(self.number):
                tasks.create_task(self._keep(self._listen, page))
                tasks.create_task(self._keep(self._poll, "/api/partitions", _PARTITIONS_S))
                if page % 5 == 0:
                    tasks.create_task(self._keep(self._poll, "/api/windows?size=1m&last=40&by=category", _WINDOWS_S))
            tasks.create_task(self._count())

    async def _count(self) -> None:
        while True:
            self._cpu = time.thread_time()
            await asyncio.sleep(0.5)

    async def _keep(self, work: Callable[..., Awaitable[None]], *asked: object) -> None:
        while True:
            try:
                await work(*asked)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                await asyncio.sleep(0.2)

    async def _listen(self, page: int) -> None:
        total = b""
        reader, writer = await self._get("/api/live")
        try:
            while line := await reader.readline():
                if line.startswith(b"event: look"):
                    self._seen[page] += 1
                elif (found := _TOTAL.search(line)) and found[1] != total:
                    total = found[1]
                    await self._read("/api/letters?limit=20")
        finally:
            writer.close()

    async def _poll(self, path: str, every_s: float) -> None:
        while True:
            json.loads((await self._read(path)).partition(b"\r\n\r\n")[2])
            await asyncio.sleep(every_s)

    async def _read(self, path: str) -> bytes:
        reader, writer = await self._get(path)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def _get(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A line of the stream is a whole snapshot.
        reader, writer = await asyncio.open_connection(*self._at, limit=2**24)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return reader, writer
