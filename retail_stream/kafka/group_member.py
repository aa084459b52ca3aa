"""Keeps one member of a group alive: a member that the group refuses or that hears nothing is replaced by a new one.

So group errors are seen without a poll, and there is one way out of every state in which a client can hang.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, RequestTimedOutError, StaleMetadata

from retail_stream.kafka.begins_anew import BeginsAnew
from retail_stream.kafka.group_consumer import GroupConsumer
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.settings import Connections
from retail_stream.waiting import Outage

#: A member that no broker answers for so long is replaced; so is one that the group does not let in for `OUTSIDE_S`.
SILENT_S, OUTSIDE_S = 20.0, 60.0
#: Shorter silences are not worth a sentence, and do not end readiness.
QUIET_S = 5.0
_LOOK_S = 0.5
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
_NO_ANSWER = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, StaleMetadata, OSError, TimeoutError)


class GroupMember:
    """The present consumer of a group, if there is one. One event loop uses it."""

    def __init__(
        self,
        connections: Connections,
        group: str,
        topics: Sequence[str],
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[list[TopicPartitionKey]], None],
        silences: Callable[[], Sequence[float]],
    ) -> None:
        """``revoked``, ``assigned``: as for :class:`GroupConsumer`; ``revoked`` also before a member is replaced.

        ``silences``: for each partition, how many seconds ago a broker answered for it; asked twice a second.
        """
        #: None while a new one connects.
        self.consumer: GroupConsumer | None = None
        self._connections, self._group, self._topics = connections, group, topics
        self._revoked, self._assigned, self._silences = revoked, assigned, silences
        self._outage = Outage()
        self._refused: KafkaError | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def is_inside(self) -> bool:
        """Whether the group has it as a member now."""
        return self.consumer is not None and self.consumer.is_member

    @property
    def has_coordinator(self) -> bool:
        """Whether a broker is known that takes commits."""
        return self.consumer is not None and self.consumer.has_coordinator

    def start(self) -> None:
        """Begin to join the group."""
        self._running = asyncio.create_task(self._run(), name=f"{self._group} member")

    async def stop(self) -> None:
        """Leave the group; takes 6 s at most beside ``revoked``."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})

    def check(self) -> None:
        """Raise what has ended the task that keeps the member alive, so that its program ends, too."""
        if self._running is not None and self._running.done():
            raise RuntimeError("The task of a group's member has ended.") from (
                None if self._running.cancelled() else self._running.exception()
            )

    def refuse(self, error: KafkaError) -> None:
        """Replace the member soon, because of this."""
        self._refused = error

    async def _run(self) -> None:
        pause = _SHORTEST_PAUSE_S
        while True:
            consumer = GroupConsumer(self._connections, self._group, self._revoked, self._assigned)
            self._refused = None
            started = monotonic()
            try:
                await consumer.start(self._topics)
                self.consumer = consumer
                await self._watch(consumer)
            except (KafkaError, OSError, TimeoutError) as error:
                self._outage.says(self._in_words(error))
            finally:
                await self._revoked()
                self.consumer = None
                await consumer.stop()
            pause = _SHORTEST_PAUSE_S if monotonic() - started > SILENT_S else min(2 * pause, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def _watch(self, consumer: GroupConsumer) -> None:
        """Look after a member until it must be replaced; raises why."""
        inside_at = monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            consumer.check()
            if self._refused is not None:
                raise self._refused
            now, is_inside = monotonic(), consumer.is_member
            silent_s = min(self._silences(), default=0.0)
            inside_at = now if is_inside else inside_at
            if silent_s > SILENT_S or now - inside_at > OUTSIDE_S:
                raise TimeoutError
            if silent_s > QUIET_S or (now - inside_at > QUIET_S and not consumer.has_coordinator):
                self._outage.says(self._in_words(TimeoutError()))
            elif is_inside:
                self._outage.ends()

    def _in_words(self, error: Exception) -> str:
        servers = self._connections.kafka_bootstrap_servers
        if isinstance(error, _NO_ANSWER):
            return f"Kafka at {servers} does not answer."
        if isinstance(error, BeginsAnew):
            return str(error)
        why = (getattr(error, "description", "") or str(error)).rstrip(".")
        return f"Kafka at {servers} refuses a member of the group {self._group}: {why}."
