"""The feed: one chunk of a partition at a time, in order, and nothing committed that is not done."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections
from services.cleaner import feed as module
from services.cleaner.feed import Chunk, Feed, Position

A, B = ("a.raw", 0), ("a.raw", 1)


class Records(PartitionRecords):
    """Stands for records of a given size."""

    def __init__(self, start: int, end: int, size: int = 1) -> None:
        super().__init__((), start, end)
        object.__setattr__(self, "_size", size)

    @property
    def size(self) -> int:
        return cast("Any", self)._size


class Membership:
    """In place of the real one: hands out what a test puts in, unless paused."""

    def __init__(self, *_: Any) -> None:
        self.owned: Mapping[Any, Position] = {A: Position(0), B: Position(0)}
        self.paused: set[Any] = set()
        self.waiting: dict[Any, list[Records]] = {A: [], B: []}
        self.events: list[str] = []
        self.kept: dict[Any, int] = {}

    async def committed(self, keys: Any) -> dict[Any, int]:
        return self.kept

    async def join(self) -> None:
        self.events.append("join")

    async def leave(self) -> None:
        self.events.append("leave")

    def pause(self, keys: Any) -> None:
        self.paused |= set(keys)

    def resume(self, keys: Any) -> None:
        self.paused -= set(keys)

    async def poll(self, most_bytes: int, linger_s: float) -> dict[Any, Records]:
        await asyncio.sleep(0)
        return {key: found.pop(0) for key, found in self.waiting.items() if found and key not in self.paused}

    def advance(self, stored: Mapping[Any, Position]) -> None:
        self.owned = {**self.owned, **stored}

    def commit(self, now: float) -> None:
        pass


class World:
    """A feed whose agents are the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, grace_s: float) -> None:
        monkeypatch.setattr(module, "Membership", Membership)
        self.taken: list[Chunk] = []
        self.begins = True
        self.feed = Feed(cast("Connections", None), "group", {"a.raw": self._take}, grace_s=grace_s)
        self.member = cast("Any", self.feed.membership)

    async def _take(self, chunk: Chunk) -> None:
        self.taken.append(chunk)
        if self.begins:
            assert chunk.begin()

    def reads(self, place: Any, *ends: int, size: int = 1) -> None:
        start = 0
        for end in ends:
            self.member.waiting[place].append(Records(start, end, size))
            start = end

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(partition, end) of the chunks that came to agents."""
        return [(chunk.place[1], chunk.records.end) for chunk in self.taken]

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


def story(monkeypatch: pytest.MonkeyPatch, tell: Any, grace_s: float = 30.0) -> World:
    async def run() -> World:
        world = World(monkeypatch, grace_s)
        running = asyncio.create_task(world.feed.run())
        await tell(world)
        await world.feed.stop()
        await running
        return world

    return asyncio.run(run())


def test_a_partition_has_one_chunk_at_its_agent_and_one_ahead(monkeypatch):
    async def tell(world: World) -> None:
        world.reads(A, 10, 20, 30)
        world.reads(B, 5)
        await world.settle()
        assert sorted(world.offsets) == [(0, 10), (1, 5)]
        # 20 is ahead; 30 is not read.
        assert [r.end for r in world.member.waiting[A]] == [30]
        first = next(chunk for chunk in world.taken if chunk.place == A)
        first.acknowledge()
        assert world.member.owned[A] == Position(10)
        await world.settle()
        assert world.offsets[-1] == (0, 20)
        assert world.member.waiting[A] == []
        for chunk in world.taken:
            chunk.acknowledge()
        await world.settle()
        world.taken[-1].acknowledge()
        assert world.member.owned == {A: Position(30), B: Position(5)}

    assert story(monkeypatch, tell).member.events == ["join", "leave"]


def test_nothing_is_worked_on_after_a_chunk_whose_agent_failed(monkeypatch):
    async def tell(world: World) -> None:
        world.reads(A, 10, 20)
        await world.settle()
        world.taken[0].release()
        world.reads(B, 5)
        await world.settle()
        world.taken[0].acknowledge()

    world = story(monkeypatch, tell)
    assert world.offsets == [(0, 10)]
    assert world.member.owned[A] == Position(0)


def test_nothing_is_read_while_chunks_hold_too_many_bytes(monkeypatch):
    async def tell(world: World) -> None:
        world.reads(A, 10, size=module.MOST_BYTES)
        await world.settle()
        world.reads(B, 5)
        await world.settle()
        assert world.offsets == [(0, 10)]
        world.taken[0].acknowledge()
        await world.settle()
        assert world.offsets == [(0, 10), (1, 5)]
        world.taken[1].acknowledge()

    story(monkeypatch, tell)


@pytest.mark.parametrize("in_time", [True, False])
def test_before_a_rebalance_chunks_in_hand_are_finished_and_committed_or_forgotten(monkeypatch, in_time: bool):
    async def tell(world: World) -> None:
        world.reads(A, 10, 20)
        await world.settle()
        (chunk,) = world.taken
        giving_back = asyncio.create_task(world.feed._give_back())
        await world.settle()
        assert not giving_back.done()
        assert chunk.begin()
        if in_time:
            chunk.acknowledge()
        await giving_back
        # What the membership commits now.
        assert [p.next_offset for p in world.member.owned.values()] == [10 if in_time else 0, 0]
        assert not chunk.begin()
        chunk.acknowledge()  # too late: another worker may own the partition
        chunk.release()
        assert world.offsets == [(0, 10)]
        # The next owner, perhaps again this one, reads what was not acknowledged.
        world.reads(A, 20)
        await world.settle()
        world.taken[-1].acknowledge()

    world = story(monkeypatch, tell, 30.0 if in_time else 0.02)
    assert world.offsets == [(0, 10), (0, 20)]


def test_a_partition_whose_offset_is_gone_is_named_once_and_read_from_its_beginning(monkeypatch):
    async def tell(world: World) -> None:
        assert await world.feed._claim([A, B]) == {A: Position(0), B: Position(0)}
        world.reads(A, 10)
        await world.settle()
        world.taken[0].acknowledge()
        world.member.kept = {A: 10}
        assert await world.feed._claim([A, B]) == {A: Position(10), B: Position(0)}
        world.member.kept = {}
        assert await world.feed._claim([A, B]) == {A: Position(0), B: Position(0)}
        assert await world.feed._claim([A, B]) == {A: Position(0), B: Position(0)}

    with capture_logs() as logs:
        story(monkeypatch, tell)
    (named,) = [entry["event"] for entry in logs]
    assert named.startswith("a.raw/0 was read up to offset 10 and its group has no offset of it now")


def test_a_chunk_that_no_agent_has_begun_with_is_not_waited_for(monkeypatch):
    async def tell(world: World) -> None:
        world.begins = False
        world.reads(A, 10)
        await world.settle()
        async with asyncio.timeout(10):
            await world.feed._give_back()
        assert not world.taken[0].begin()

    story(monkeypatch, tell)


def test_a_stop_waits_for_chunks_in_hand_and_hands_out_no_more(monkeypatch):
    async def tell(world: World) -> None:
        world.reads(A, 10, 20)
        await world.settle()
        asyncio.get_running_loop().call_later(0.005, world.taken[0].acknowledge)

    world = story(monkeypatch, tell)
    assert world.offsets == [(0, 10)]
    assert world.member.owned[A] == Position(10)


def test_how_long_the_oldest_chunk_takes(monkeypatch):
    async def tell(world: World) -> None:
        assert world.feed.oldest_s == 0
        world.reads(A, 10)
        await world.settle()
        assert world.feed.oldest_s > 0
        world.taken[0].acknowledge()
        assert world.feed.oldest_s == 0

    story(monkeypatch, tell)
