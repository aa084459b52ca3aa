"""Membership for a loop without asyncio: an event loop in a thread of its own, which heartbeats while the caller works.

The caller's callbacks run in the caller's thread, inside of its calls, so that its state needs no lock::

    caller       poll ──────────────────▶ batch   store (seconds)     poll ─ before_rebalance ─ claim ──▶ …
    event loop   fetches, heartbeats ─────────────────────── revoked ──┘ assigned ────────────┘
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from retail_stream.kafka.membership import Membership, Owned
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections

T = TypeVar("T")
_END_S = 5.0


@dataclass(frozen=True)
class _Request:
    """A callback that the event loop wants to be run."""

    action: Callable[[], Any]
    answer: "asyncio.Future[Any]"


@dataclass(frozen=True)
class _Ended:
    """A call of the caller has ended."""

    result: Any
    error: BaseException | None


class BlockingMembership(Generic[Owned]):
    """A :class:`Membership` whose methods wait; one thread calls it, but for what any thread may read there."""

    def __init__(
        self,
        connections: Connections,
        group: str,
        topics: Iterable[str],
        claim: Callable[[list[TopicPartitionKey]], Mapping[TopicPartitionKey, Owned]],
        before_rebalance: Callable[[], None] = lambda: None,
    ) -> None:
        """As :class:`Membership`; both callbacks may block and run inside of the caller's calls."""
        self._inbox: SimpleQueue[_Request | _Ended] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{group} membership", daemon=True)

        async def claim_in_caller(keys: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, Owned]:
            return await self._in_caller(lambda: claim(keys))

        async def finish_in_caller() -> None:
            await self._in_caller(before_rebalance)

        self._membership: Membership[Owned] = Membership(connections, group, topics, claim_in_caller, finish_in_caller)

    @property
    def owned(self) -> Mapping[TopicPartitionKey, Owned]:
        """What is stored of our partitions. It changes only inside of the caller's calls."""
        return self._membership.owned

    @property
    def at_end(self) -> Mapping[TopicPartitionKey, int]:
        """The partitions that were read to their ends, with these."""
        return self._membership.at_end

    @property
    def joined(self) -> bool:
        """See :class:`Membership`."""
        return self._membership.joined

    @property
    def reading(self) -> bool:
        """See :class:`Membership`."""
        return self._membership.reading

    def join(self) -> None:
        """Begin to join the group; partitions arrive during later polls."""
        if not self._thread.is_alive():
            self._thread.start()
        self._wait_for(self._membership.join())

    def rejoin(self) -> None:
        """Leave the group and join it as a new member, which claims its partitions anew."""
        self._wait_for(self._membership.rejoin())

    def leave(self) -> None:
        """Commit the last positions, leave the group and end the thread."""
        if self._thread.is_alive():
            self._wait_for(self._membership.leave())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_END_S)

    def reclaim(self) -> None:
        """Claim the partitions that we own again and read from their stored positions."""
        self._wait_for(self._membership.reclaim())

    def poll(self, most_bytes: int, linger_s: float) -> dict[TopicPartitionKey, PartitionRecords]:
        """See :meth:`Membership.poll`."""
        return self._wait_for(self._membership.poll(most_bytes, linger_s))

    def read_stored(self) -> None:
        """Read on from the stored positions of our partitions."""

        async def read() -> None:
            self._membership.read_stored()

        self._wait_for(read())

    def follows(self, batch: Mapping[TopicPartitionKey, PartitionRecords]) -> bool:
        """Whether all records before the batch are in the stored results; else :meth:`read_stored`."""
        return self._membership.follows(batch)

    def advance(self, stored: Mapping[TopicPartitionKey, Owned]) -> None:
        """Note what is stored now of partitions that we own."""
        self._membership.advance(stored)

    def lag(self) -> dict[tuple[str, ...], float]:
        """See :meth:`Membership.lag`."""
        return self._membership.lag()

    def commit(self, now: float) -> None:
        """See :meth:`Membership.commit`."""
        self._loop.call_soon_threadsafe(self._membership.commit, now)

    async def _in_caller(self, action: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Request(action, answer))
        return await answer

    def _wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call in the event loop, and meanwhile the callbacks that it asks for in this thread."""

        async def run() -> None:
            # Into the inbox from the event loop itself: the order of what is in there is the order in which it came.
            try:
                self._inbox.put(_Ended(await call, None))
            except BaseException as error:
                self._inbox.put(_Ended(None, error))

        asyncio.run_coroutine_threadsafe(run(), self._loop)
        while True:
            match self._inbox.get():
                case _Request(action, answer):
                    self._answer(action, answer)
                case _Ended(result, None):
                    return result  # type: ignore[no-any-return]
                case _Ended(_, error):
                    assert error is not None
                    raise error

    def _answer(self, action: Callable[[], Any], answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled():  # the partitions of this claim were revoked
            return
        result: Any = None
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:
            failure = error

        def settle() -> None:
            if not answer.done():
                answer.set_result(result) if failure is None else answer.set_exception(failure)

        self._loop.call_soon_threadsafe(settle)
