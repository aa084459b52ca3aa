"""Agents over channels: a chunk is acknowledged when the next one is asked for, and at no other time."""

import asyncio
from typing import Any

import pytest

from retail_stream.waiting import Stopped
from services.cleaner.channels import App


class Chunk:
    """Writes down what happens to it."""

    def __init__(self, number: int, events: list[str], *, is_ours: bool = True) -> None:
        self.number, self.events, self.is_ours = number, events, is_ours

    def begin(self) -> bool:
        return self.is_ours

    def acknowledge(self) -> None:
        self.events.append(f"acknowledged {self.number}")

    def release(self) -> None:
        self.events.append(f"released {self.number}")


def run(work: Any, *foreign: int, concurrency: int = 1) -> tuple[list[str], BaseException | None]:
    """Give chunks 0, 1 and 2 to an agent that calls `work`; what happened until nothing more did."""
    events: list[str] = []

    async def main() -> BaseException | None:
        app = App("test")
        channel: Any = app.channel()

        @app.agent(channel, name="agent", concurrency=concurrency)
        async def agent(chunks: Any) -> None:
            async for chunk in chunks:
                events.append(f"begins {chunk.number}")
                await work(chunk, events)
                events.append(f"ends {chunk.number}")

        app.loop = asyncio.get_running_loop()
        await app.start()
        for number in range(3):
            await channel.put(Chunk(number, events, is_ours=number not in foreign))
        before = None
        while before != (before := list(events)):
            for _ in range(20):
                await asyncio.sleep(0)
        await app.stop()
        assert app.failed.is_set() == (app.failure is not None)
        return app.failure

    return events, asyncio.run(main())


async def nothing(chunk: Chunk, events: list[str]) -> None:
    await asyncio.sleep(0)


def test_a_chunk_is_acknowledged_when_the_next_one_is_asked_for():
    assert run(nothing) == (
        [f"{what} {n}" for n in range(3) for what in ("begins", "ends", "acknowledged", "released")],
        None,
    )


@pytest.mark.parametrize("error", [ValueError("one"), Stopped()])
def test_a_chunk_whose_agent_raised_is_not_acknowledged_and_nothing_follows(error: Exception):
    async def work(chunk: Chunk, events: list[str]) -> None:
        if chunk.number == 1:
            raise error

    events, failure = run(work)
    assert events == ["begins 0", "ends 0", "acknowledged 0", "released 0", "begins 1", "released 1"]
    # An agent that waited for a server when the program was to stop has not failed.
    assert failure is (None if isinstance(error, Stopped) else error)


def test_a_chunk_whose_agent_is_cancelled_is_not_acknowledged():
    async def work(chunk: Chunk, events: list[str]) -> None:
        await asyncio.Event().wait()

    assert run(work) == (["begins 0", "released 0"], None)


def test_a_chunk_of_a_partition_that_is_not_ours_any_more_is_skipped():
    events, _ = run(nothing, 0, 2)
    assert events == ["begins 1", "ends 1", "acknowledged 1", "released 1"]


def test_several_chunks_are_worked_on_at_a_time():
    async def work(chunk: Chunk, events: list[str]) -> None:
        while sum(event.startswith("begins") for event in events) < 3:
            await asyncio.sleep(0)

    events, _ = run(work, concurrency=3)
    assert events[:3] == ["begins 0", "begins 1", "begins 2"]
    assert sum(event.startswith("acknowledged") for event in events) == 3
