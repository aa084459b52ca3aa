"""Reads the records of one topic with a confluent-kafka consumer, on a thread of its own.

Each topic has its own reader: back-pressure is then simply not to call ``consume``, and a slow agent slows only its
own topic down. To pause partitions of a shared consumer would throw away, each time, what was prefetched.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from services.cleaner.transport.chunks import Chunking, Fetched, split

log = logging.getLogger(__name__)
T = TypeVar("T")

# How long a call may block: the longest that a rebalance, a seek or a stop has to wait for the thread.
POLL_S = 0.1

DEFAULTS: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    # Memory: what librdkafka may prefetch of each partition; and how soon it looks again when that was full
    # (its default, a second, would leave the queue empty for most of it).
    "queued.max.messages.kbytes": 4096,
    "queued.min.messages": 20_000,
    "fetch.queue.backoff.ms": 5,
    # How soon a broker that comes back is noticed. At levels above 2 every failed attempt would be logged.
    "reconnect.backoff.ms": 200,
    "reconnect.backoff.max.ms": 1000,
    "log_level": 2,
}


class TopicReader:
    """The consumer of one topic.

    Hold ``lock`` around a read and the use of its result, and around every change of what is read. Then records that
    were read before a change cannot be taken for records that were read after it.
    """

    def __init__(
        self,
        topic: str,
        config: Mapping[str, Any],
        chunking: Chunking,
        on_unreachable: Callable[[], None],
    ) -> None:
        self.topic = topic
        self.lock = asyncio.Lock()
        self._max_records = chunking.max_records
        self._linger_s = chunking.linger_s
        self._on_unreachable = on_unreachable
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{topic}")
        self._consumer = Consumer({**DEFAULTS, **config, "error_cb": self._on_error}, logger=log)

    async def assign(self, starts: Mapping[int, int | None], *, paused: Collection[int] = ()) -> None:
        """Read exactly these partitions, each from its offset (None = from the earliest record)."""
        partitions = [
            TopicPartition(self.topic, partition, OFFSET_BEGINNING if offset is None else offset)
            for partition, offset in starts.items()
        ]
        await self._call(self._consumer.assign, partitions)
        # librdkafka may remember that a partition was paused from an earlier assignment.
        await self.resume(starts)
        await self.pause(partition for partition in starts if partition in paused)

    async def read(self) -> Fetched:
        """Records, as many as there are and at most ``max_records``; waits up to POLL_S for the first one."""
        return await self._call(self._read)

    def _read(self) -> Fetched:
        messages = self._consumer.consume(1, POLL_S)
        if messages:
            messages += self._consumer.consume(self._max_records - 1, self._linger_s)
        fetched = split(messages)
        for chunk in fetched.chunks:
            partition = TopicPartition(self.topic, chunk.partition)
            # Cached: as of the last fetch, without asking the broker.
            _, fetched.high_watermarks[chunk.partition] = self._consumer.get_watermark_offsets(partition, cached=True)
        return fetched

    async def pause(self, partitions: Iterable[int]) -> None:
        """Stop fetching; what was prefetched is thrown away and fetched again later."""
        await self._call(self._consumer.pause, self._named(partitions))

    async def resume(self, partitions: Iterable[int]) -> None:
        """Go on after the last record that was read."""
        await self._call(self._consumer.resume, self._named(partitions))

    def _named(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition) for partition in partitions]

    async def close(self) -> None:
        """Stop the thread and the consumer."""
        await self._call(self._consumer.close)
        self._thread.shutdown()

    # Every call of the consumer goes through its thread: consume() holds a lock of the client, and a call from the
    # event loop, even one that needs no broker, would block the loop until the thread releases it.
    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _on_error(self, error: KafkaError) -> None:
        # librdkafka recovers by itself; an error that it cannot recover from comes out of consume() and raises there.
        log.debug("%s: %s", self.topic, error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._on_unreachable()
