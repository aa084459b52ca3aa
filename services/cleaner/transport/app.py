"""A Faust app whose agents get chunks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from mode.supervisors import SupervisorStrategy

from retail_stream.waiting import Stopped
from services.cleaner.transport.chunks import Chunk, Chunking
from services.cleaner.transport.consumer import ChunkConsumer
from services.cleaner.transport.positions import Partition, Progress


class ChunkStream(faust.Stream[Any]):
    """A stream that acknowledges a chunk when its agent asks for the next one, and never otherwise.

    Faust's own acknowledges in ``finally``, so also if the agent raised or was cancelled in the middle of a chunk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "enable_acks": False})
        self._current: list[Chunk] = []
        self._defers = False

    @property
    def has_more(self) -> bool:
        """Whether the next chunk is there already."""
        channel: Any = self.channel
        return not channel.empty()

    def defer(self) -> None:
        """Acknowledge the current chunk together with the next one, not when the agent asks for the next one.

        Only for an agent that bounds what it defers, and only if ``has_more``: what is read ahead leaves no room for
        deferred chunks, and nothing else acknowledges them.
        """
        self._defers = True

    def acknowledge(self) -> None:
        """Acknowledge the current chunk and all deferred ones now, whatever the agent does next."""
        self._end(done=True)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._acknowledging(super().__aiter__())

    async def _acknowledging(self, values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        consumer: Any = self.app.consumer
        async for value in values:
            event: Any = self.current_event
            consumer.begin(event.value)
            self._current.append(event.value)
            self._defers = done = False
            try:
                yield value
                done = True
            finally:
                if done and self._defers:
                    consumer.defer(event.value)
                else:
                    self._end(done=done)

    def _end(self, *, done: bool) -> None:
        consumer: Any = self.app.consumer
        for chunk in self._current:
            consumer.end(chunk, done=done)
        self._current.clear()


class Transport(driver.Transport):
    """Faust's aiokafka transport with `ChunkConsumer`."""

    Consumer = ChunkConsumer


class NoTables(TableManager):
    """Starts at once; Faust's waits a second for tables that may still be declared."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class NeverRestart(SupervisorStrategy):
    """An agent that raised stays down: `App` stops the worker."""

    async def restart_services(self, services: list[Any]) -> None:
        """Nothing: no agent is started again."""


class ConsumingOnly(BootStrategy):
    """No Faust producer: agents write with confluent-kafka."""

    enable_kafka_producer = False
    enable_web = False


class App(faust.App):
    """``faust.App`` over chunks: no tables, no web server, no producer, no topics of its own, no files.

    Takes Faust's settings; those below are defaults.  An agent that raises stops the worker, its chunk unacknowledged.
    """

    BootStrategy = ConsumingOnly

    def __init__(self, id: str, *, chunking: Chunking | None = None, **settings: Any) -> None:
        self.chunking = chunking or Chunking()
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        defaults = {
            "Stream": ChunkStream,
            "TableManager": NoTables,
            "agent_supervisor": NeverRestart,
            "key_serializer": "raw",
            "value_serializer": "raw",
            # What is acknowledged is committed within a second, and a commit itself takes some of that.
            "broker_commit_interval": 0.25,
            # aiokafka gives up a connection to a broker whose machine is gone after this. Until then it opens no other,
            # and commits nothing. It must be longer than a rebalance. Faust's default is a minute and a half.
            "broker_request_timeout": 30.0,
            "stream_wait_empty": True,
            # There are no tables to replicate; with 0 Faust leaves the assignment to the plain round-robin assignor.
            "table_standby_replicas": 0,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "web_enabled": False,
        }
        super().__init__(id, **{**defaults, **settings})

    # Not app.consumer: the first access creates it, which only the app's own thread may do.
    @property
    def is_settled(self) -> bool:
        """Whether the group has assigned this worker its partitions, which may be none; any thread may ask."""
        consumer = cast("ChunkConsumer | None", self._consumer)
        return consumer is not None and consumer.settled

    def progress(self) -> dict[Partition, Progress]:
        """The offsets of each owned partition, as of the last fetches; any thread may ask."""
        consumer = cast("ChunkConsumer | None", self._consumer)
        return {} if consumer is None else consumer.positions.snapshot()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        if isinstance(exc, Stopped):
            # The agent waited for a server. The event that ended its wait also stops the worker.
            return
        # Not Service.crash(): it ends every service at once, the consumer's thread included, so that what other agents
        # have acknowledged cannot be committed. `run` stops the app in good order instead.
        if self.failure is None:
            self.failure = exc
            self.failed.set()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing: Faust's directories are for tables."""
