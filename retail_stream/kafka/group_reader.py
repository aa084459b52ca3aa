"""Reads partitions from given positions, bounded in bytes, and stops a partition whose batch cannot be read."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from retail_stream.kafka.begins_anew import BeginsAnew
from retail_stream.kafka.group_consumer import PARTITION_BYTES, GroupConsumer
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords, Unread
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import RecordSet

#: Compressed bytes that are read ahead, all partitions together. The client holds one fetch more of each.
READ_AHEAD_BYTES = 2**24
#: How long a poll waits for the first record.
POLL_S = 0.1
_SHORTEST_STOP_S, _LONGEST_STOP_S = 1.0, 30.0
_log = structlog.get_logger(__name__)


@dataclass
class _Stop:
    """A partition that stopped at a batch; ``retry_at``: monotonic seconds, None while it is tried again."""

    pause_s: float
    retry_at: float | None


class GroupReader:
    """Reads the partitions of one assignment after the other. One event loop uses it."""

    def __init__(self) -> None:
        #: The partitions that were read to their ends, with these. Replaced, never changed in place; so is ``ends``.
        self.at_end: Mapping[TopicPartitionKey, int] = {}
        #: Where each partition ended when it was last fetched from.
        self.ends: Mapping[TopicPartitionKey, int] = {}
        self._consumer: GroupConsumer | None = None
        self._unread: dict[TopicPartitionKey, Unread] = {}
        # The offset that the next record handed out of each partition can have.
        self._read_to: dict[TopicPartitionKey, int] = {}
        self._paused: set[TopicPartitionKey] = set()
        self._stops: dict[TopicPartitionKey, _Stop] = {}
        self._heard: dict[TopicPartitionKey, tuple[int | None, float]] = {}
        self._fetching: asyncio.Task[Mapping[TopicPartitionKey, RecordSet | CorruptBatch]] | None = None
        # What the fetch under way is for: a partition that stopped meanwhile has another `Unread`.
        self._asked: dict[TopicPartitionKey, Unread] = {}
        # Done when a partition is handed out again: a poll that waits for others need not wait any longer.
        self._resumed: asyncio.Future[None] | None = None

    def start(self, consumer: GroupConsumer, positions: Mapping[TopicPartitionKey, int]) -> None:
        """Read these partitions of the consumer from these offsets on, and no others; none of them is paused."""
        self.forget()
        self._consumer = consumer
        self._unread = {key: Unread(offset) for key, offset in positions.items()}
        self._read_to = dict(positions)
        for key, offset in positions.items():
            consumer.seek(key, offset)
            consumer.resume(key)

    def forget(self) -> None:
        """Drop all that was read and read nothing."""
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            fetching.add_done_callback(lambda task: task.cancelled() or task.exception())
            fetching.cancel()
        self._consumer = None
        self.at_end, self.ends = {}, {}
        self._unread, self._read_to, self._stops, self._heard = {}, {}, {}, {}
        self._paused = set()

    def pause(self, keys: Iterable[TopicPartitionKey]) -> None:
        """Hand out nothing of these partitions; they are still read ahead, bounded in bytes."""
        self._paused.update(keys)

    def resume(self, keys: Iterable[TopicPartitionKey]) -> None:
        """Hand them out again, also by a poll under way."""
        self._paused.difference_update(keys)
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    @property
    def is_stopped(self) -> bool:
        """Whether a partition stands at a batch that cannot be read."""
        return bool(self._stops)

    def silences(self) -> list[float]:
        """For each partition, how many seconds ago a broker answered for it; 0 while it is not asked. Call it often."""
        now = monotonic()
        for key, unread in self._unread.items():
            assert self._consumer is not None
            stamp, _ = self._heard.get(key, (None, 0.0))
            answered = self._consumer.answered(key)
            not_asked = key in self._paused or key in self._stops or unread or self._consumer.has_waiting(key)
            if key not in self._heard or answered != stamp or not_asked:
                self._heard[key] = answered, now
        return [now - at for _, at in self._heard.values()]

    async def poll(self, most_bytes: int, linger_s: float) -> dict[TopicPartitionKey, PartitionRecords]:
        """Wait for records, at most `POLL_S` for the first and ``linger_s`` for more, and read them.

        ``most_bytes``: decompressed, at most one piece more. The records of a partition follow those of the last poll.
        A partition without new records is there only if its end has moved.

        Raises:
            KafkaError: the group or the brokers refuse something.
        """
        self._retry()
        unread = self._unread
        until = monotonic() + POLL_S
        while unread is self._unread and not self._readable() and (left := until - monotonic()) > 0:
            await self._fetch(left)
        until = monotonic() + linger_s
        # Compressed records take about half of their space.
        while unread is self._unread and 0 < self._waiting() < most_bytes // 2 and (left := until - monotonic()) > 0:
            await self._fetch(left)
        # Partitions that were forgotten meanwhile have nothing to hand out.
        return self._take(most_bytes) if unread is self._unread else {}

    def _readable(self) -> list[TopicPartitionKey]:
        return [key for key, unread in self._unread.items() if unread and key not in self._paused]

    def _waiting(self) -> int:
        return sum(self._unread[key].size for key in self._readable())

    async def _fetch(self, within_s: float) -> None:
        task = self._fetching
        resumed = self._resumed = asyncio.get_running_loop().create_future()
        if task is None:
            share = max(PARTITION_BYTES, READ_AHEAD_BYTES // max(1, len(self._unread)))
            # Paused ones, too: what the client holds of them until it is asked for would hold up the others.
            wanted = [key for key, unread in self._unread.items() if unread.size < share and key not in self._stops]
            wanted += [key for key, stop in self._stops.items() if stop.retry_at is None]
            if self._consumer is None or not wanted:
                await asyncio.wait({resumed}, timeout=within_s)
                return
            self._asked = {key: self._unread[key] for key in wanted}
            task = self._fetching = asyncio.create_task(self._consumer.fetch(wanted, within_s))
        # Not awaited itself: a fetch may wait for the end of a rebalance, and a poll may be cancelled.
        await asyncio.wait({task, resumed}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() or self._fetching is not task:
            return
        self._fetching = None
        for key, item in task.result().items():
            if self._unread[key] is not self._asked[key]:
                continue  # it comes from behind the batch at which the partition stopped; the retry reads it again
            if isinstance(item, CorruptBatch):
                self._stop(key, item)
            elif item.fetch_offset < self._unread[key].position:
                # The broker sent the client back: what we read is not there, and what comes is not what follows it.
                raise BeginsAnew(key, self._unread[key].position, item.fetch_offset)
            elif item.next_offset > self._unread[key].position:
                self._unread[key].add(item)

    def _take(self, most_bytes: int) -> dict[TopicPartitionKey, PartitionRecords]:
        """Read pieces, partitions in turn."""
        pieces: dict[TopicPartitionKey, list[Columns]] = {}
        size = 0
        turns = deque(self._readable())
        while turns and size < most_bytes:
            key = turns.popleft()
            try:
                piece = self._unread[key].piece()
            except CorruptBatch as error:
                self._stop(key, error)
                continue
            if piece is not None:
                shared = key in pieces and pieces[key][-1].buffer is piece.buffer
                size += piece.table.nbytes if shared else piece.size
                pieces.setdefault(key, []).append(piece)
                turns.append(key)
        batch = {}
        for key, start in self._read_to.items():
            if (end := self._unread[key].position) > start:
                batch[key] = PartitionRecords(tuple(pieces.get(key, ())), start, end)
                self._read_to[key] = end
                self._goes_on(key)
        self._see_ends()
        # Another partition is the first of the next poll.
        if self._unread:
            first = next(iter(self._unread))
            self._unread[first] = self._unread.pop(first)
        return batch

    def _see_ends(self) -> None:
        assert self._consumer is not None or not self._unread
        ends, at_end = {}, {}
        for key, position in self._read_to.items():
            end = self._consumer.end(key) if self._consumer is not None else None
            if end is not None:
                self._pass_deleted(key, end)
                ends[key] = max(end, position)
                if position >= end and not self._unread[key]:
                    at_end[key] = position
        self.ends, self.at_end = ends, at_end

    def _pass_deleted(self, key: TopicPartitionKey, end: int) -> None:
        """Move to the end of a partition whose records from our position on are all deleted."""
        assert self._consumer is not None
        unread = self._unread[key]
        is_fetched = self._fetching is not None and self._fetching.done()
        if unread or unread.position >= end or is_fetched or self._consumer.has_waiting(key):
            return
        position = self._consumer.position(key)
        if position is not None and position >= end:
            unread.position = position

    def _stop(self, key: TopicPartitionKey, error: CorruptBatch) -> None:
        """Leave a partition where it is for a while; its neighbours go on."""
        assert self._consumer is not None
        before = self._stops.get(key)
        pause = _SHORTEST_STOP_S if before is None else min(2 * before.pause_s, _LONGEST_STOP_S)
        if before is None:
            _log.error("stops a partition", why=str(error), partition=f"{key[0]}/{key[1]}", again_in_s=pause)
        self._stops[key] = _Stop(pause, monotonic() + pause)
        self._unread[key] = Unread(self._unread[key].position)
        self._consumer.pause(key)

    def _retry(self) -> None:
        for key, stop in self._stops.items():
            if stop.retry_at is not None and stop.retry_at <= monotonic():
                assert self._consumer is not None
                stop.retry_at = None
                self._consumer.seek(key, self._unread[key].position)
                self._consumer.resume(key)

    def _goes_on(self, key: TopicPartitionKey) -> None:
        stop = self._stops.get(key)
        if stop is not None and stop.retry_at is None:
            del self._stops[key]
            _log.info("reads on", partition=f"{key[0]}/{key[1]}")
