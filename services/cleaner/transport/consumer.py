"""The Faust consumer: aiokafka does membership, rebalances and commits; confluent-kafka reads records, as chunks.

Faust's own aiokafka consumer is a member of the group, but its partitions are paused, so that it fetches nothing.
The same partitions are assigned to one `TopicReader` for each topic, from the committed offsets.  `Positions`
replaces what Faust does with single offsets: lists of acknowledged ones, gaps, seeks back when the flow stopped.

A rebalance, eager as aiokafka does it::

    revoked    readers stop → Faust clears the agents' queues → agents get a short while to finish their chunk
               → acknowledged offsets are committed → all else is forgotten; the next owner reads it again
    assigned   Faust's recovery service (no tables: at once) → perform_seek: committed offsets → readers start
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

from services.cleaner.transport.chunks import Chunk
from services.cleaner.transport.membership import MembershipThread
from services.cleaner.transport.message import as_message
from services.cleaner.transport.positions import Positions, Progress
from services.cleaner.transport.reader import TopicReader

log = logging.getLogger(__name__)

REMIND_S = 30.0  # between two warnings while the broker is away
COMMIT_S = 5.0  # for the last commit of a stop, or before partitions are revoked


class ChunkConsumer(driver.Consumer):
    """Passes chunks to the streams, keeps their positions, commits what was acknowledged."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions = Positions()
        #: whether the group has assigned us our partitions, which may be none
        self.settled = False
        self.chunking = self.app.chunking
        self._readers: dict[str, TopicReader] = {}
        self._current: set[Chunk] = set()
        self._changed = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._warned_at = -REMIND_S
        self._generation = 0  # goes up whenever partitions are taken away

    def _new_consumer_thread(self) -> MembershipThread:
        return MembershipThread(self, loop=self.loop, beacon=self.beacon)

    async def _read(self, reader: TopicReader) -> None:
        while not self.should_stop:
            await self._wait_until(lambda: self._has_room(reader.topic))
            async with reader.lock:
                fetched = await reader.read()
                for chunk in fetched.chunks:
                    self.positions.add(chunk)
                for partition, end in fetched.high_watermarks.items():
                    self.positions.saw_end((reader.topic, partition), end)
                for partition, end in fetched.ends.items():
                    self.positions.reached_end((reader.topic, partition), end)
            if fetched.chunks:
                self._changed.set()

    def _has_room(self, topic: str) -> bool:
        chunks, records = self.positions.outstanding(topic)
        # Two chunks a partition: the agent's and one ahead. Records gather in librdkafka's queue for larger chunks.
        return chunks < 2 * len(self.positions.starts(topic)) and records < 2 * self.chunking.max_records

    def resume_flow(self) -> None:
        super().resume_flow()
        self._changed.set()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _drain_messages(self, fetcher: Any) -> None:
        """Called by Faust's fetcher, until it stops: hand chunks to the streams."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for _, message in self.getmany(timeout=1.0):
                    # A rebalance suspends the flow: the message that waits for its turn is dropped, and read again.
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except asyncio.CancelledError:
            # Faust would crash and restart a fetcher that a rebalance stops, if the cancellation left this method.
            if not fetcher.should_stop:
                raise

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """One message for each chunk that is there, partitions in turn; ends when there was none for ``timeout`` s."""
        while not self.should_stop:
            chunk = self.positions.take(but=self._paused_partitions) if self.flow_active else None
            if chunk is not None:
                tp = TP(chunk.topic, chunk.partition)
                yield tp, as_message(chunk, tp, self.app.consumer_generation_id)
                continue
            self._changed.clear()
            try:
                # Python 3.11 loses a cancellation at the end of the wait, so the caller has to look for a stop.
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                return

    def begin(self, chunk: Chunk) -> None:
        """An agent begins with a chunk."""
        self._current.add(chunk)

    def defer(self, chunk: Chunk) -> None:
        """An agent goes on to the next chunk before this one is done: no stop and no rebalance waits for it."""
        self._current.discard(chunk)
        self.positions.defer(chunk)
        self._changed.set()

    def end(self, chunk: Chunk, *, done: bool) -> None:
        """An agent has ended its work on a chunk: ``done``, or it failed or was cancelled."""
        self._current.discard(chunk)
        if done:
            self.positions.acknowledge(chunk)
        self._changed.set()

    def ack(self, message: Message) -> bool:
        """Do nothing: Faust calls this also for messages that it skipped.  See `end`."""
        return False

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what was acknowledged, of all topics; True when the broker has stored something."""
        async with self._commit_lock:
            offsets = {TP(*partition): offset for partition, offset in self.positions.committable().items()}
            if not offsets or self._thread.crashed or not await self._commit(offsets):
                return False
            self.positions.commit({(tp.topic, tp.partition): offset for tp, offset in offsets.items()})
            return True

    async def wait_empty(self) -> None:
        """Let the agents finish their chunks, then commit; both have a time limit."""
        try:
            async with asyncio.timeout(self.chunking.grace_s):
                await self._wait_until(lambda: not self._current)
        except TimeoutError:
            self.log.warning("%d chunks are not finished in time; they will be read again.", len(self._current))
        if not self.positions.committable():
            return
        try:
            async with asyncio.timeout(COMMIT_S):  # without a broker a commit is tried again without end
                await self.commit()
        except TimeoutError:
            self.log.warning("The last commit is not done in time; what it covers will be read again.")
            self.positions.assign({})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.settled = False
        self._generation += 1
        for reader in self._readers.values():
            async with reader.lock:
                await reader.assign({})
        await super().on_partitions_revoked(revoked)
        self.positions.assign({})

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        self.settled = True

    async def perform_seek(self) -> None:
        """Called by Faust when the partitions are ours: read on from the committed offsets."""
        generation = self._generation
        committed = await self.seek_to_committed()
        if generation != self._generation:
            # The partitions were revoked meanwhile. If we get none instead, Faust does not call this again.
            return
        self.positions.assign({TP(*partition): offset for partition, offset in committed.items()})
        for topic in {topic for topic, _ in committed}:
            if topic not in self._readers:
                self._readers[topic] = self._new_reader(topic)
                self.add_future(self._read(self._readers[topic]))
            async with self._readers[topic].lock:
                await self._assign(self._readers[topic])

    async def _assign(self, reader: TopicReader) -> None:
        starts = self.positions.starts(reader.topic)
        await reader.assign(starts, paused=[p for p in starts if TP(reader.topic, p) in self._paused_partitions])
        self._changed.set()

    def _servers(self) -> str:
        return ",".join(driver.server_list(self.transport.url, driver.Transport.default_port))

    def _new_reader(self, topic: str) -> TopicReader:
        conf = self.app.conf
        client = {"group.id": conf.id, "client.id": f"{conf.broker_client_id}-{topic}"}
        config = {"bootstrap.servers": self._servers(), **client, **self.chunking.librdkafka}
        return TopicReader(topic, config, self.chunking, self.say_unreachable)

    async def seek(self, partition: TP, offset: int) -> None:
        """Read on from ``offset``, in either direction; chunks on their way are dropped."""
        async with self._readers[partition.topic].lock:
            self.positions.restart(partition, offset)
            await self._assign(self._readers[partition.topic])

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for partition, offset in partitions.items():
            await self.seek(partition, offset)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        super().pause_partitions(tps)
        for tp in self._owned(tps):
            self.add_future(self._readers[tp.topic].pause([tp.partition]))

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        super().resume_partitions(tps)
        for tp in self._owned(tps):
            self.add_future(self._readers[tp.topic].resume([tp.partition]))
        self._changed.set()

    def _owned(self, tps: Iterable[TP]) -> list[TP]:
        # In a rebalance, when the flow is stopped, Faust pauses and resumes everything; the readers are stopped then.
        return [tp for tp in tps if tp in self.positions] if self.flow_active else []

    def progress(self) -> dict[TP, Progress]:
        """The offsets of each owned partition, as of the last fetches, without asking a broker; any thread may ask."""
        return {TP(*partition): progress for partition, progress in self.positions.snapshot().items()}

    async def position(self, tp: TP) -> int | None:
        return self.positions.progress(tp).position

    def highwater(self, tp: TP) -> int:
        return self.positions.progress(tp).end or 0

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: the base class would warn that aiokafka fetches nothing."""

    def say_unreachable(self) -> None:
        """Warn in the log, at most once in REMIND_S; any thread may call it."""
        if monotonic() - self._warned_at >= REMIND_S:
            self._warned_at = monotonic()
            log.warning("Kafka at %s does not answer; waiting for it.", self._servers())

    async def on_stop(self) -> None:
        self.settled = False
        await super().on_stop()
        self.positions.assign({})
        for reader in self._readers.values():
            async with reader.lock:
                await reader.close()
