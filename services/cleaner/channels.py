"""A Faust app whose agents read channels of chunks; Faust itself speaks to no broker.

    app = App("cleaner")
    channel = app.channel()

    @app.agent(channel, concurrency=4)
    async def sales(chunks):
        async for chunk in chunks:      # a chunk is done when the next one is asked for
            ...

    await app.start()
    await channel.put(chunk)

A chunk is acknowledged when its agent asks for the next one, never when the agent raised or was cancelled. An agent
that raises is not started again, and ``failed`` is set.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import faust
from faust.app.base import BootStrategy
from mode.supervisors import SupervisorStrategy

from retail_stream.waiting import Stopped


class Chunk(Protocol):
    """What channels carry."""

    def begin(self) -> bool:
        """Whether an agent is to work on it; False if it is not ours any more."""
        ...

    def acknowledge(self) -> None:
        """Its agent is done with it."""
        ...

    def release(self) -> None:
        """Its agent no longer works on it, done or not."""
        ...


class ChunkStream(faust.Stream[Any]):
    """Acknowledges a chunk when the next one is asked for; Faust would also do so if the agent raised."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "enable_acks": False})

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._acknowledging(super().__aiter__())

    async def _acknowledging(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Any]:
        async for chunk in chunks:
            if not chunk.begin():
                continue
            try:
                yield chunk
                chunk.acknowledge()
            finally:
                chunk.release()


class NeverRestart(SupervisorStrategy):
    """An agent that raised stays down: the program stops."""

    async def restart_services(self, services: list[Any]) -> None:
        """Nothing: no agent is started again."""


class AgentsOnly(BootStrategy):
    """No Kafka clients and no web server of Faust's."""

    enable_kafka = False
    enable_web = False


class App(faust.App):
    """``faust.App`` with agents and channels only: no topics, tables, clients, web server or files."""

    BootStrategy = AgentsOnly

    def __init__(self, id: str, **settings: Any) -> None:
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        defaults = {
            "Stream": ChunkStream,
            "agent_supervisor": NeverRestart,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "web_enabled": False,
        }
        super().__init__(id, **{**defaults, **settings})

    async def on_start(self) -> None:
        """Let values flow: Faust's consumer would do this with its first partitions."""
        await super().on_start()
        self.flow_control.resume()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        # An agent that waited for a server ends with the program. Not Service.crash(): the others stop in good order.
        if not isinstance(exc, Stopped) and self.failure is None:
            self.failure = exc
            self.failed.set()

    async def _wait_for_table_recovery_completed(self) -> bool:
        """There are no tables."""
        return False

    async def _stop_consumer(self) -> None:
        """There is no consumer."""

    def _create_directories(self) -> None:
        """Faust's directories are for tables."""
