"""Brings what the group's member reads to the agents, a chunk at a time, and notes what they are done with.

A partition has one chunk at its agent and one ahead. So its records are worked on in order, however many agents there
are, and memory is bounded::

    acknowledged        at an agent        ahead       read (paused while a chunk is ahead)
    ──────────────┤├──────────────────┤├───────────┤├─ ─ ─ ─ ─
                  └ committed: everything before it was acknowledged
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import structlog

from retail_stream.kafka.membership import Membership
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections

#: Decompressed bytes that a poll brings, at most one piece more.
POLL_BYTES = 2**22
#: Bytes of all chunks, ahead and at agents; with more, nothing is read.
MOST_BYTES = 2**25
#: How long a poll waits for more after its first record: what it may add to latency.
LINGER_S = 0.005
#: How long a rebalance or a stop waits for agents to finish their chunks.
GRACE_S = 5.0
_TICK_S = 0.1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Position:
    """The first offset of a partition that is not acknowledged."""

    next_offset: int


@dataclass(eq=False)
class Chunk:
    """Consecutive records of one partition. It may hold none, where only its partition's end has moved."""

    place: TopicPartitionKey
    records: PartitionRecords
    _feed: "Feed"
    #: When an agent began with it, monotonic seconds; 0 before.
    since: float = 0.0

    def begin(self) -> bool:
        """See `channels.Chunk`."""
        self.since = monotonic()
        return self._feed.has(self)

    def acknowledge(self) -> None:
        """See `channels.Chunk`; may be called again."""
        self._feed.end(self, done=True)

    def release(self) -> None:
        """See `channels.Chunk`."""
        self._feed.end(self, done=False)


class Feed:
    """One event loop uses it; any thread may ask for ``membership`` and ``oldest_s``."""

    def __init__(
        self,
        connections: Connections,
        group: str,
        channels: Mapping[str, Callable[[Chunk], Awaitable[object]]],
        grace_s: float = GRACE_S,
    ) -> None:
        """``channels``: topic → takes a chunk without waiting."""
        self.membership: Membership[Position] = Membership(connections, group, channels, self._claim, self._give_back)
        self._channels, self._grace_s = channels, grace_s
        self._at_agents: dict[TopicPartitionKey, Chunk] = {}
        self._ahead: dict[TopicPartitionKey, Chunk] = {}
        self._handing: set[asyncio.Future[None]] = set()
        self._changed = asyncio.Event()
        self._is_stopping = False
        # Where each partition was acknowledged up to, also after it was given back.
        self._reached: dict[TopicPartitionKey, int] = {}

    @property
    def oldest_s(self) -> float:
        """For how long an agent has been working on its chunk; the longest time of all."""
        now = monotonic()
        return now - min((chunk.since for chunk in [*self._at_agents.values()] if chunk.since), default=now)

    async def run(self) -> None:
        """Join the group and feed the agents until `stop`."""
        await self.membership.join()
        while not self._is_stopping:
            if self._size() >= MOST_BYTES:
                await self._change(_TICK_S)
            else:
                full = self._ahead.keys()
                self.membership.pause(full)
                self.membership.resume(self.membership.owned.keys() - full)
                for place, records in (await self.membership.poll(POLL_BYTES, LINGER_S)).items():
                    self._ahead[place] = Chunk(place, records, self)
                    await self._hand_out(place)
            self.membership.commit(monotonic())

    async def stop(self) -> None:
        """Let the agents finish their chunks, commit, and leave the group; each has a time limit."""
        self._is_stopping = True
        await self._finish()
        self._at_agents.clear()
        await self.membership.leave()

    def has(self, chunk: Chunk) -> bool:
        """Whether a chunk's partition is still ours, as it was when the chunk was read."""
        return self._at_agents.get(chunk.place) is chunk

    def end(self, chunk: Chunk, *, done: bool) -> None:
        """An agent has ended its work on a chunk: it is ``done``, or the agent failed or was cancelled."""
        if not self.has(chunk):
            return
        del self._at_agents[chunk.place]
        self._changed.set()
        if done:
            self.membership.advance({chunk.place: Position(chunk.records.end)})
            self._reached[chunk.place] = chunk.records.end
            handing = asyncio.ensure_future(self._hand_out(chunk.place))
            self._handing.add(handing)
            handing.add_done_callback(self._handing.discard)
        else:
            # What follows it must not be worked on.
            self._ahead.clear()
            self._is_stopping = True

    def _size(self) -> int:
        return sum(chunk.records.size for chunk in (*self._at_agents.values(), *self._ahead.values()))

    async def _hand_out(self, place: TopicPartitionKey) -> None:
        if place in self._ahead and place not in self._at_agents and not self._is_stopping:
            chunk = self._at_agents[place] = self._ahead.pop(place)
            self.membership.resume([place])
            await self._channels[place[0]](chunk)

    async def _change(self, within_s: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()

    async def _claim(self, places: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, Position]:
        committed = await self.membership.committed(places)
        for place in places:
            # Kafka deletes the offsets of a topic with it.
            if place not in committed and (reached := self._reached.pop(place, 0)):
                _log.warning(
                    f"{place[0]}/{place[1]} was read up to offset {reached:,} and its group has no offset of it now, "
                    "as when a topic is deleted and made again. It is read from its beginning; see docs/failures.md."
                )
        return {place: Position(committed.get(place, 0)) for place in places}

    async def _give_back(self) -> None:
        """Before a rebalance: let the agents finish, forget what they are not done with."""
        await self._finish()
        self._at_agents.clear()

    async def _finish(self) -> None:
        """Drop the chunks that no agent has begun with, and wait for the others."""
        self._ahead.clear()
        self._at_agents = {place: chunk for place, chunk in self._at_agents.items() if chunk.since}
        until = monotonic() + self._grace_s
        while self._at_agents and (left := until - monotonic()) > 0:
            await self._change(left)
        if self._at_agents:
            _log.warning("chunks are not finished in time; they will be read again", chunks=len(self._at_agents))
