"""A member of a group whose fetches are written down, in place of `GroupConsumer`."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from aiokafka.errors import KafkaError, RequestTimedOutError

from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch

Fetched = Mapping[TopicPartitionKey, RecordSet | CorruptBatch]
KEY = ("t", 0)


def sets(*offsets: int, key: TopicPartitionKey = KEY) -> Fetched:
    """One fetch with records of these offsets, which are their values, too."""
    found = [Record(o, 0, b"1", str(o).encode(), ()) for o in offsets]
    return {key: record_set(*key, batch(found), offsets[0])}


class ScriptedConsumer:
    """Notes seeks, commits and what is fetched; each fetch is the next line of the script, then nothing comes."""

    def __init__(
        self, *script: Callable[["ScriptedConsumer"], Fetched | Awaitable[Fetched] | None], keys: Collection = (KEY,)
    ) -> None:
        self.script, self.keys = list(script), keys
        self.seeks: list[int] = []
        self.commits: list[dict[TopicPartitionKey, int]] = []
        self.wanted: list[set[TopicPartitionKey]] = []
        self.refusal: KafkaError | None = None
        self.lives = 0
        self.commit_fails = False
        self.is_member = self.has_coordinator = self.is_silent = False
        self._answers = 0
        self._rebalancing: asyncio.Task[None] | None = None

    def connect(
        self,
        connections: object,
        group: str,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[list[TopicPartitionKey]], None],
    ) -> "ScriptedConsumer":
        """As `GroupConsumer`'s constructor."""
        self._revoked, self._assigned = revoked, assigned
        return self

    async def start(self, topics: Iterable[str]) -> None:
        self.lives += 1
        self.rebalance()

    async def stop(self) -> None:
        self.is_member = self.has_coordinator = False

    def rebalance(self) -> None:
        """Revoke the partitions and assign them again, as a task of aiokafka does."""

        async def run() -> None:
            self.is_member = False
            await self._revoked()
            self.is_member = self.has_coordinator = True
            self._assigned(list(self.keys))

        self._rebalancing = asyncio.create_task(run())

    def check(self) -> None:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal

    async def fetch(self, keys: Collection[TopicPartitionKey], within_s: float) -> Fetched:
        self.wanted.append(set(keys))
        self._answers += not self.is_silent
        fetched = self.script.pop(0)(self) if self.script else None
        if isinstance(fetched, Awaitable):
            fetched = await fetched
        if fetched is None:
            await asyncio.sleep(min(within_s, 0.01))
        return fetched or {}

    def seek(self, key: TopicPartitionKey, offset: int) -> None:
        self.seeks.append(offset)

    def pause(self, key: TopicPartitionKey) -> None: ...

    def resume(self, key: TopicPartitionKey) -> None: ...

    def end(self, key: TopicPartitionKey) -> int | None:
        return 1000

    def position(self, key: TopicPartitionKey) -> int | None:
        return None

    def answered(self, key: TopicPartitionKey) -> int | None:
        return self._answers

    def has_waiting(self, key: TopicPartitionKey) -> bool:
        return False

    async def commit(self, offsets: Mapping[TopicPartitionKey, int]) -> None:
        self.commits.append(dict(offsets))
        if self.commit_fails:
            self.commit_fails = False
            raise RequestTimedOutError
