"""Membership of a consumer group: which partitions are ours, what came of them, and how far we are.

The group's protocol proposes an owner for each partition; whatever ``claim`` reads the stored positions from decides.
For merger and aggregator that is Postgres, with an epoch in each row; for the cleaner it is the group's own offsets.

    join ──▶ assignment ──▶ claim ──▶ read from the stored positions ──▶ poll, advance, commit … ──▶ leave
               ▲                                                              │
               └──────────────── rejoin (fenced, refused, silent) ◀───────────┘

`group_member` keeps the member alive, `group_reader` reads its partitions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError

from retail_stream.kafka.group_member import QUIET_S, GroupMember
from retail_stream.kafka.group_reader import GroupReader
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections

_COMMIT_EVERY_S, _COMMIT_WITHIN_S, _LAST_COMMIT_S = 1.0, 10.0, 2.0
_log = structlog.get_logger(__name__)


class HasNextOffset(Protocol):
    """What an owner keeps of a partition; ``next_offset``: the first offset that is not in the stored results."""

    @property
    def next_offset(self) -> int: ...


Owned = TypeVar("Owned", bound=HasNextOffset)


class Membership(Generic[Owned]):
    """A member of a consumer group, with what it keeps of each partition that it owns.

    One event loop uses it. Any thread may read ``owned``, ``joined``, ``reading``, ``at_end`` and :meth:`lag`.
    """

    def __init__(
        self,
        connections: Connections,
        group: str,
        topics: Iterable[str],
        claim: Callable[[list[TopicPartitionKey]], Awaitable[Mapping[TopicPartitionKey, Owned]]],
        before_rebalance: Callable[[], Awaitable[None]],
    ) -> None:
        """Open nothing yet.

        ``claim``: becomes the owner of partitions and returns their stored positions; it may take any time. It is
        cancelled when the partitions are revoked. ``before_rebalance``: finishes what is in flight before partitions
        go, within 30 s. What either raises, the next poll raises; after a `KafkaError` the member joins again instead.
        """
        #: Replaced, never changed in place.
        self.owned: Mapping[TopicPartitionKey, Owned] = {}
        self._group, self._claim, self._before_rebalance = group, claim, before_rebalance
        self._reader = GroupReader()
        self._member = GroupMember(
            connections, group, list(topics), self._give_back, self._on_assigned, self._look_at_silences
        )
        self._is_claimed = False
        # How often partitions were assigned or revoked.
        self._generation = 0
        self._silences: list[float] = []
        self._failure: Exception | None = None
        self._committed: dict[TopicPartitionKey, int] = {}
        self._committed_at = 0.0
        self._claiming: asyncio.Task[None] | None = None
        self._giving_back: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None

    @property
    def joined(self) -> bool:
        """Whether it is a member of the group, and has claimed its share of the partitions, which may be none."""
        return self._is_claimed and self._member.is_inside

    @property
    def reading(self) -> bool:
        """Whether brokers answer for every partition that it owns, and it stopped none; a paused one counts as read."""
        return not self._reader.is_stopped and max(self._silences, default=0.0) < QUIET_S

    @property
    def at_end(self) -> Mapping[TopicPartitionKey, int]:
        """The partitions that were read to their ends, with these."""
        return self._reader.at_end

    async def join(self) -> None:
        """Begin to join the group; partitions arrive during later polls."""
        self._member.start()

    async def rejoin(self) -> None:
        """Leave the group and join it as a new member, which claims its partitions anew."""
        await self._member.stop()
        await self.join()

    async def leave(self) -> None:
        """Commit the last positions and leave the group; takes 10 s at most, and no wait if no broker answers."""
        if self._committing is not None:
            self._committing.cancel()
        if self.joined and self.reading and not await self._commit_last():
            _log.info("last positions are not committed to Kafka; lag tools show the ones before")
        await self._member.stop()

    async def reclaim(self) -> None:
        """Claim the partitions that we own again and read from their stored positions."""
        if self.owned:
            await self._take_over(list(self.owned), self._generation)

    async def poll(self, most_bytes: int, linger_s: float) -> dict[TopicPartitionKey, PartitionRecords]:
        """Read what has come since the last poll, by partition; empty after 0.1 s without a record.

        ``most_bytes``: decompressed, at most one piece more; ``linger_s``: how long to wait for more after the first.
        The records of a partition follow those of the last poll. A partition without new records is there only if its
        end has moved.

        Raises:
            Exception: what ``claim`` or ``before_rebalance`` raised.
        """
        self._member.check()
        generation = self._generation
        batch: dict[TopicPartitionKey, PartitionRecords] = {}
        try:
            batch = await self._reader.poll(most_bytes, linger_s)
        except KafkaError as error:
            self._member.refuse(error)
        if self._giving_back is not None:
            await asyncio.shield(self._giving_back)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return batch if generation == self._generation else {}

    def pause(self, keys: Iterable[TopicPartitionKey]) -> None:
        """Hand out nothing of these partitions; what was fetched of them is kept, and bounded in bytes."""
        self._reader.pause(keys)

    def resume(self, keys: Iterable[TopicPartitionKey]) -> None:
        """Hand them out again."""
        self._reader.resume(keys)

    def follows(self, batch: Mapping[TopicPartitionKey, PartitionRecords]) -> bool:
        """Whether all records before the batch are in the stored results; else :meth:`read_stored`."""
        return all(key in self.owned and r.start <= self.owned[key].next_offset for key, r in batch.items())

    def read_stored(self) -> None:
        """Read on from the stored positions of our partitions."""
        consumer = self._member.consumer
        if consumer is not None and self.owned:
            self._reader.start(consumer, {key: owned.next_offset for key, owned in self.owned.items()})

    def advance(self, stored: Mapping[TopicPartitionKey, Owned]) -> None:
        """Note what is stored now of partitions that we own."""
        self.owned = {**self.owned, **{key: owned for key, owned in stored.items() if key in self.owned}}

    def lag(self) -> dict[tuple[str, ...], float]:
        """Records from the stored position to the end, by topic and partition, as of the last fetch."""
        owned, ends = self.owned, self._reader.ends
        return {(k[0], str(k[1])): max(0, ends[k] - o.next_offset) for k, o in owned.items() if k in ends}

    async def committed(self, keys: Iterable[TopicPartitionKey]) -> Mapping[TopicPartitionKey, int]:
        """The group's committed offsets, for ``claim``; see :meth:`GroupConsumer.committed`."""
        if self._member.consumer is None:
            raise KafkaConnectionError
        return await self._member.consumer.committed(keys)

    def commit(self, now: float) -> None:
        """Commit the positions to Kafka, at most once a second and without waiting; ``now``: monotonic seconds.

        A commit that fails is repeated a second later.
        """
        busy = self._committing is not None and not self._committing.done()
        if not busy and now - self._committed_at >= _COMMIT_EVERY_S and self.joined and self._uncommitted():
            self._committed_at = now
            self._committing = asyncio.create_task(self._commit(self._uncommitted(), _COMMIT_WITHIN_S))

    async def _commit_last(self) -> bool:
        await self._commit(self._uncommitted(), _LAST_COMMIT_S)
        return not self._uncommitted()

    def _uncommitted(self) -> dict[TopicPartitionKey, int]:
        at = {key: owned.next_offset for key, owned in self.owned.items()}
        return {key: offset for key, offset in at.items() if self._committed.get(key) != offset}

    async def _commit(self, offsets: Mapping[TopicPartitionKey, int], within_s: float) -> None:
        generation, consumer = self._generation, self._member.consumer
        if consumer is None or not offsets:
            return
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(within_s):
                await consumer.commit(offsets)
            if generation == self._generation:
                self._committed.update(offsets)

    def _look_at_silences(self) -> list[float]:
        self._silences = self._reader.silences()
        return self._silences

    def _on_assigned(self, keys: list[TopicPartitionKey]) -> None:
        self._generation += 1
        self._claiming = asyncio.create_task(self._take_over(keys, self._generation), name=f"{self._group} claim")

    async def _take_over(self, keys: list[TopicPartitionKey], generation: int) -> None:
        try:
            owned = await self._claim(keys) if keys else {}
        except KafkaError as error:
            self._member.refuse(error)
            return
        except Exception as error:
            self._failure = error
            return
        if generation != self._generation:
            return
        self.owned, self._committed = owned, {}
        self.read_stored()
        self._is_claimed = True
        _log.info("assigned", partitions=" ".join(f"{t}/{p}" for t, p in sorted(owned)) or "none")

    async def _give_back(self) -> None:
        """Let the work in flight end, commit what came of it, and forget the partitions."""
        if self._giving_back is None:
            self._giving_back = asyncio.create_task(self._finish_and_forget(), name=f"{self._group} revoke")
        await asyncio.shield(self._giving_back)

    async def _finish_and_forget(self) -> None:
        self._generation += 1
        self._is_claimed = False
        if self._claiming is not None:
            self._claiming.cancel()
        try:
            if self.owned:
                await self._before_rebalance()
                if self.reading and self._member.has_coordinator:
                    await self._commit_last()
        except Exception as error:
            self._failure = error
        finally:
            if self.owned:
                _log.info("revoked", partitions=len(self.owned))
            self._generation += 1
            self.owned, self._committed, self._silences = {}, {}, []
            self._reader.forget()
            self._giving_back = None
