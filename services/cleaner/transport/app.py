"""A Faust app whose agents are handed chunks."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from mode.supervisors import SupervisorStrategy

from retail_stream.waiting import Stopped
from services.cleaner.transport.chunks import Chunk
from services.cleaner.transport.consumer import ChunkConsumer
from services.cleaner.transport.positions import Partition, Progress


@dataclass(frozen=True, slots=True)
class Chunking:
    """How records become chunks.

    ``linger_s``: how long to wait for more after the first record of a read; what it adds to latency, at most.
    ``grace_s``: how long a rebalance or a stop waits for the chunks that agents hold.
    ``librdkafka``: more settings for the readers, such as security.
    """

    max_records: int = 40_000
    linger_s: float = 0.01
    grace_s: float = 5.0
    librdkafka: Mapping[str, Any] = field(default_factory=dict)


class ChunkStream(faust.Stream):
    """A stream that acknowledges a chunk when its agent asks for the next one, and never otherwise.

    Faust's own acknowledges in ``finally``: also when the agent raised, or was cancelled, in the middle of a chunk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "enable_acks": False})
        self._in_hand: list[Chunk] = []
        self._held_back = False

    @property
    def more_waits(self) -> bool:
        """Whether the next chunk is there already."""
        channel: Any = self.channel
        return not channel.empty()

    def hold_back(self) -> None:
        """The chunk in hand is not done when the agent asks for the next one, but together with that one.

        Only for an agent that bounds what it holds back, and only when ``more_waits``: no room is kept for such chunks
        in what is read ahead, and nothing else acknowledges them.
        """
        self._held_back = True

    def acknowledge(self) -> None:
        """All chunks in hand are done, whatever the agent does next."""
        self._take_back(done=True)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._acknowledging(super().__aiter__())

    async def _acknowledging(self, values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        consumer: Any = self.app.consumer
        async for value in values:
            event: Any = self.current_event
            consumer.hand_over(event.value)
            self._in_hand.append(event.value)
            self._held_back = done = False
            try:
                yield value
                done = True
            finally:
                if done and self._held_back:
                    consumer.set_aside(event.value)
                else:
                    self._take_back(done=done)

    def _take_back(self, *, done: bool) -> None:
        consumer: Any = self.app.consumer
        for chunk in self._in_hand:
            consumer.take_back(chunk, done=done)
        self._in_hand.clear()


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
        """Nothing."""


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
            # A commit takes its time, too: what is acknowledged is to be committed within a second.
            "broker_commit_interval": 0.25,
            # A worker that was killed gives its partitions back after this; Faust's default is a minute.
            "broker_session_timeout": 10.0,
            # A connection to a broker whose machine is gone is given up after this, and until then aiokafka opens no
            # other: nothing is committed. Longer than a rebalance takes. Faust's default is a minute and a half.
            "broker_request_timeout": 30.0,
            "stream_wait_empty": True,
            # Without tables nobody stands by; with 0 Faust leaves the assignment to the plain round-robin assignor.
            "table_standby_replicas": 0,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "web_enabled": False,
        }
        super().__init__(id, **{**defaults, **settings})

    # Not app.consumer: whoever asks for it first creates it, and that is for the app's own thread to do.
    @property
    def is_settled(self) -> bool:
        """Whether the group has given this worker its share, be it nothing; any thread may ask."""
        consumer = cast("ChunkConsumer | None", self._consumer)
        return consumer is not None and consumer.settled

    def progress(self) -> dict[Partition, Progress]:
        """Where each owned partition stands, as of the last fetches; any thread may ask."""
        consumer = cast("ChunkConsumer | None", self._consumer)
        return {} if consumer is None else consumer.positions.snapshot()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        if isinstance(exc, Stopped):
            # The agent waited for a server. The event that ended its wait also stops the worker.
            return
        # Not Service.crash(): it takes down every service at once, the consumer's thread too, and then nothing that
        # other agents have acknowledged can be committed.  `run` stops the app in good order instead.
        if self.failure is None:
            self.failure = exc
            self.failed.set()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: they are for tables."""
