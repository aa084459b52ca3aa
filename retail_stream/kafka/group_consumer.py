"""An aiokafka consumer of a group that gives out record sets and fetches only what it is told to.

Private names of aiokafka's consumer are used here and nowhere else: its coordinator, for errors and membership that it
tells only to callers of `getmany`; its client, to close it and to pace metadata requests; its fetcher's results.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from retail_stream.kafka import fetched_record_sets, keepalive
from retail_stream.kafka.begins_anew import BeginsAnew
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import RecordSet
from retail_stream.settings import Connections

#: What a broker sends of a partition at a time, and of all partitions; a batch that is larger comes whole.
PARTITION_BYTES = 2**21
_FETCH_BYTES = 2**23
_REQUEST_MS = 10_000
#: A member that does not give its partitions back within this time is removed from the group.
_REBALANCE_MS = 30_000
#: How long a broker waits for records. A partition that is resumed meanwhile waits for the answer, too.
_FETCH_WAIT_MS = 50
#: How long the next fetch from a broker waits until what came is taken. Without this time it would be for the silent
#: partitions only, and all others would wait for its answer. At aiokafka's 0.1 s, one partition of which enough is read
#: ahead would hold up the others.
_TAKEN_WITHIN_S = 0.03
_BACKOFF_MS = 200
#: How long partitions that were added to a topic may go unnoticed. The clients' default is five minutes.
_METADATA_MS = 30_000
_NEVER_MS = 2**31 - 1
_METADATA_PAUSE_S = 0.2
_CLOSE_S = 2.0


class GroupConsumer:
    """One member of a group, for one life: it is started once and stopped once. One event loop uses it."""

    def __init__(
        self,
        connections: Connections,
        group: str,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[list[TopicPartitionKey]], None],
    ) -> None:
        """``revoked``: waits until its partitions may go to others. ``assigned``: gets the new ones, paused."""
        fetched_record_sets.install()
        keepalive.install()
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=connections.kafka_bootstrap_servers,
            client_id=f"retail-stream-{group}",
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            # A stop of polls is not the end of a member: a store that is away may take any time.
            max_poll_interval_ms=_NEVER_MS,
            session_timeout_ms=int(connections.kafka_session_timeout_s * 1000),
            heartbeat_interval_ms=int(connections.kafka_heartbeat_s * 1000),
            rebalance_timeout_ms=_REBALANCE_MS,
            request_timeout_ms=_REQUEST_MS,
            retry_backoff_ms=_BACKOFF_MS,
            metadata_max_age_ms=_METADATA_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            # One only: aiokafka joins once for each of several.
            partition_assignment_strategy=(_Assignor(self._hold),),
            **connections.aiokafka(),
        )
        self._listener = _Listener(revoked, assigned)
        client = self._consumer._client
        client._metadata_update = _paced(client._metadata_update)

    async def start(self, topics: Iterable[str]) -> None:
        """Connect and begin to join the group; it does not wait for partitions.

        Raises:
            KafkaError: no broker answers, or a topic is not there.
        """
        asyncio.get_running_loop().set_exception_handler(_without_refusals)
        await self._consumer.start()
        self._consumer._fetcher._prefetch_backoff = _TAKEN_WITHIN_S
        # A leader of the group that does not know the partitions yet would assign none of them.
        for topic in (names := list(topics)):
            await self._consumer._client._wait_on_metadata(topic)
        self._consumer.subscribe(names, listener=self._listener)

    async def stop(self) -> None:
        """Leave the group and close everything, within 6 s also where no broker answers."""
        consumer = self._consumer
        parts = [consumer.stop]
        parts += [part.close for part in (consumer._fetcher, consumer._client) if part is not None]
        for close in parts:
            # In a task of its own: the fetcher raises CancelledError when it ends a fetch in flight, and the
            # coordinator takes a cancellation for one of its own tasks. What takes too long, the next ones close.
            closing = asyncio.ensure_future(close())
            done, _ = await asyncio.wait({closing}, timeout=_CLOSE_S)
            if not done:
                closing.cancel()
            elif not closing.cancelled():
                closing.exception()
        coordinator = consumer._coordinator
        for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task"):
            if (task := getattr(coordinator, name, None)) is not None:
                task.cancel()

    @property
    def is_member(self) -> bool:
        """Whether the coordinator is known and has this member in the group's present generation, as far as it said."""
        coordinator = self._consumer._coordinator
        if coordinator is None or coordinator.coordinator_id is None or coordinator.generation <= 0:
            return False
        subscription = self._consumer._subscription.subscription
        return subscription is not None and not coordinator.need_rejoin(subscription)

    @property
    def has_coordinator(self) -> bool:
        """Whether a broker that leads the group is known and connected, as far as it said."""
        return self._consumer._coordinator.coordinator_id is not None

    def check(self) -> None:
        """Raise what aiokafka would raise to the next caller of `getmany`, and what ended its background tasks."""
        self._consumer._coordinator.check_errors()
        if (fetching := self._consumer._fetcher.error_future).done():
            fetching.result()
            raise KafkaError("the fetcher has ended")

    async def fetch(
        self, keys: Collection[TopicPartitionKey], within_s: float
    ) -> Mapping[TopicPartitionKey, RecordSet | CorruptBatch]:
        """What has come of these partitions, at most one item each; empty if nothing comes in time.

        What is there of other partitions is kept. It may take longer than ``within_s`` while the group rebalances.

        Raises:
            KafkaError: the group or the brokers refuse something.
        """
        places = [TopicPartition(*key) for key in keys]
        fetched = await self._consumer.getmany(*places, timeout_ms=int(within_s * 1000))
        return {(place.topic, place.partition): item for place, (item,) in fetched.items()}

    def seek(self, key: TopicPartitionKey, offset: int) -> None:
        """Read on from there; what was fetched of the partition is dropped."""
        self._consumer.seek(TopicPartition(*key), offset)

    def pause(self, key: TopicPartitionKey) -> None:
        """Fetch nothing of a partition; what was fetched is dropped."""
        self._consumer.pause(TopicPartition(*key))

    def resume(self, key: TopicPartitionKey) -> None:
        """Fetch again."""
        self._consumer.resume(TopicPartition(*key))

    def end(self, key: TopicPartitionKey) -> int | None:
        """Where a partition ended for a `read_committed` reader, by the last answer; None before the first."""
        place = TopicPartition(*key)
        stable = self._consumer.last_stable_offset(place)
        end: int | None = stable if stable is not None and stable >= 0 else self._consumer.highwater(place)
        return end

    def position(self, key: TopicPartitionKey) -> int | None:
        """Where it reads on: behind the offset that was sought, if the records there are deleted. None: not known."""
        state = self._consumer._subscription.subscription.assignment.state_value(TopicPartition(*key))
        return state.position if state is not None and state.has_valid_position else None

    def answered(self, key: TopicPartitionKey) -> int | None:
        """When a broker last answered for a partition: a number that changes with each answer. None: not yet."""
        stamp: int | None = self._consumer.last_poll_timestamp(TopicPartition(*key))
        return stamp

    def has_waiting(self, key: TopicPartitionKey) -> bool:
        """Whether something was fetched that :meth:`fetch` has not returned yet; then nothing more is asked for."""
        return TopicPartition(*key) in self._consumer._fetcher._records

    async def commit(self, offsets: Mapping[TopicPartitionKey, int]) -> None:
        """Commit offsets. Waits for a coordinator; raises `KafkaError` for a refusal."""
        await self._consumer.commit({TopicPartition(*key): offset for key, offset in offsets.items()})

    async def committed(self, keys: Iterable[TopicPartitionKey]) -> Mapping[TopicPartitionKey, int]:
        """Committed offsets; a partition that the group never committed is absent. Waits for a coordinator.

        Raises:
            BeginsAnew: a partition ends before its committed offset.
        """
        found = await self._consumer._coordinator.fetch_committed_offsets([TopicPartition(*key) for key in keys])
        ends = await self._consumer.end_offsets(list(found))
        for place, at in found.items():
            if at.offset > ends[place]:
                raise BeginsAnew((place.topic, place.partition), at.offset, ends[place])
        return {(place.topic, place.partition): at.offset for place, at in found.items()}

    def _hold(self) -> None:
        """Keep aiokafka from asking for committed offsets, and from fetching before we say where from."""
        for place in self._consumer.assignment():
            self._consumer.seek(place, 0)
            self._consumer.pause(place)


class _Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Round robin; calls back when partitions are assigned, before aiokafka's tasks can see them."""

    def __init__(self, assigned: Callable[[], None]) -> None:
        self._assigned = assigned

    def on_assignment(self, assignment: object) -> None:
        self._assigned()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(
        self, revoked: Callable[[], Awaitable[None]], assigned: Callable[[list[TopicPartitionKey]], None]
    ) -> None:
        self._revoked, self._assigned = revoked, assigned

    async def on_partitions_revoked(self, revoked: object) -> None:
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned([(place.topic, place.partition) for place in assigned])


def _paced(update: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Metadata requests with a pause in between: without one, a partition without leader is asked for all the time."""
    asked_at = -_METADATA_PAUSE_S

    async def paced(*arguments: Any) -> bool:
        nonlocal asked_at
        await asyncio.sleep(max(0.0, asked_at + _METADATA_PAUSE_S - monotonic()))
        asked_at = monotonic()
        return await update(*arguments)

    return paced


def _without_refusals(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a refused commit that is no longer waited for: it would be a traceback."""
    if not isinstance(context.get("exception"), KafkaError):
        loop.default_exception_handler(context)
