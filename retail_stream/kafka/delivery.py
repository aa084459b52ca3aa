"""Sends built batches to partitions without a gap.

One batch of a partition is in flight. It is sent again until the broker has stored it, and nothing follows it before::

    sent       b1 ── lost ── b1 ── stored, answer lost ── b1 ── stored ── b2
    in Kafka                       b1                     b1              b2

So a batch may be there twice, and an earlier one may come again behind it, but none is missing. Consumers drop repeats
by `source.offset`. The producer is not idempotent: an idempotent one goes on behind a batch that failed for good.
Where a send is cancelled, those that wait behind it end with `Overtaken`: its batch may not be there.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RecordListTooLargeError,
    RequestTimedOutError,
    for_code,
)
from aiokafka.structs import TopicPartition

from retail_stream.kafka.clients import why_not_stored
from retail_stream.kafka.produce_request import OneBatchRequest
from retail_stream.settings import Connections

_ALL_REPLICAS = -1
_NO_ANSWER = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, OSError, TimeoutError)
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_REMIND_EVERY_S = 30.0
#: A broker that is away for less is not worth a sentence: another one leads the partition by then.
_QUIET_S = 6.0
_log = structlog.get_logger(__name__)


class BatchRefused(Exception):
    """The topic does not take a batch of this size; smaller batches, or dead letters, may still be sent."""

    def __init__(self, topic: str, size: int) -> None:
        """``size``: bytes of the batch."""
        super().__init__(f"{topic} does not take a batch of {size:,} bytes")
        self.topic, self.size = topic, size


class NoSuchPartition(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """A topic that is there has no partition of this number: it is added, or this is waited for."""

    description = "the topic has no such partition; add it"
    retriable = True


class Overtaken(Exception):
    """A batch was to follow one whose send was cancelled. It was not sent: it could have left a gap."""


class Partitions(Protocol):
    """What `Delivery` needs of a Kafka client; one attempt each."""

    async def produce(self, topic: str, partition: int, batch: bytes) -> int:
        """Offset of the first record. Raises `KafkaError`, `OSError` or `TimeoutError`."""
        ...

    async def refresh(self) -> None:
        """Ask again who leads; returns also without an answer."""
        ...


class Delivery:
    """Sends batches, any number of partitions at a time.

    `servers`: how sentences in the log name the brokers. `pause_s`: shortest pause between two attempts; it doubles
    up to 2 s. `outage_is_said`: whether the log says already that no broker answers.
    """

    def __init__(
        self,
        partitions: Partitions,
        servers: str,
        pause_s: float = _SHORTEST_PAUSE_S,
        outage_is_said: Callable[[], bool] = lambda: False,
    ) -> None:
        self._partitions, self._servers, self._pause_s = partitions, servers, pause_s
        self._outage_is_said = outage_is_said
        self._cancelled: Counter[tuple[str, int]] = Counter()
        self._in_flight: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting_since: dict[tuple[str, int], float] = {}
        self._said_at = -_REMIND_EVERY_S

    @property
    def waiting_s(self) -> float:
        """How long the oldest undelivered batch has been failing; 0 where none fails."""
        now = monotonic()
        return now - min(self._waiting_since.values(), default=now)

    async def send(self, topic: str, partition: int, batch: bytes) -> int:
        """Offset of the batch's first record, once all in-sync replicas have it; waits for that without end.

        Raises:
            BatchRefused: it is too large for its topic. Nothing was stored, and the next batch may be sent.
            Overtaken: the send of a batch before it was cancelled meanwhile.
        """
        place = topic, partition
        cancelled = self._cancelled[place]
        try:
            async with self._in_flight[place]:
                if cancelled != self._cancelled[place]:
                    raise Overtaken(f"a batch of {topic}/{partition} before this one may not be there")
                return await self._until_stored(topic, partition, batch)
        except asyncio.CancelledError:
            self._cancelled[place] += 1
            raise

    async def _until_stored(self, topic: str, partition: int, batch: bytes) -> int:
        pause = self._pause_s
        try:
            while True:
                try:
                    return await self._partitions.produce(topic, partition, batch)
                except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
                    raise BatchRefused(topic, len(batch)) from error
                except (KafkaError, OSError, TimeoutError) as error:
                    self._waiting_since.setdefault((topic, partition), monotonic())
                    self._say(topic, partition, error)
                await self._partitions.refresh()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            self._waiting_since.pop((topic, partition), None)

    def _say(self, topic: str, partition: int, error: Exception) -> None:
        is_away = isinstance(error, _NO_ANSWER)
        passes = is_away or (isinstance(error, KafkaError) and error.retriable)
        if passes and (self.waiting_s < _QUIET_S or self._outage_is_said()):
            return
        if monotonic() - self._said_at >= _REMIND_EVERY_S:
            self._said_at = monotonic()
            answer = None if is_away else getattr(error, "description", "") or str(error)
            why = why_not_stored(self._servers, topic, partition, answer)
            _log.warning("waiting", why=why, waited_s=round(self.waiting_s))


class KafkaPartitions:
    """`Partitions` by aiokafka's client. `timeout_s`: how long one attempt may take."""

    def __init__(self, connections: Connections, client_id: str, timeout_s: float = 10.0) -> None:
        self._timeout_s, self._is_started, self._starting = timeout_s, False, asyncio.Lock()
        self._client = AIOKafkaClient(
            bootstrap_servers=connections.kafka_bootstrap_servers,
            client_id=client_id,
            request_timeout_ms=int(1000 * timeout_s),
            **connections.aiokafka(),
        )

    async def produce(self, topic: str, partition: int, batch: bytes) -> int:
        """See `Partitions`."""
        async with self._starting:
            if not self._is_started:
                await self._client.bootstrap()
                self._is_started = True
        if topic not in self._client.cluster.topics():
            await self._client.add_topic(topic)
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader < 0:
            there = self._client.cluster.partitions_for_topic(topic)
            raise NoSuchPartition if there and partition not in there else LeaderNotAvailableError
        timeout_ms = int(1000 * self._timeout_s)
        request = OneBatchRequest(_ALL_REPLICAS, timeout_ms, topic, partition, batch)
        response = await self._client.send(leader, request)
        ((_, ((_, code, offset, *_),)),) = response.topics
        if code:
            raise for_code(code)
        return int(offset)

    async def refresh(self) -> None:
        """See `Partitions`."""
        if self._is_started:
            with suppress(TimeoutError, KafkaError, OSError):
                async with asyncio.timeout(self._timeout_s):
                    await self._client.force_metadata_update()

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.close()
