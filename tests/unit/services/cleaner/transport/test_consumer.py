"""The transport's consumer, without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.cleaner.transport import App


def test_a_consumer_whose_flow_is_stopped_lets_its_caller_look_around() -> None:
    async def run() -> None:
        app = App("unit", broker="kafka://127.0.0.1:1")
        consumer = app.consumer
        consumer.stop_flow()
        async with asyncio.timeout(5):
            assert [message async for message in consumer.getmany(timeout=0.01)] == []

    asyncio.run(run())


@pytest.mark.parametrize("stopped", [True, False])
def test_the_cancellation_of_a_fetcher_that_is_stopped_ends_its_work_and_is_no_crash(stopped: bool) -> None:
    async def run() -> bool:
        app = App("unit", broker="kafka://127.0.0.1:1")
        fetcher = SimpleNamespace(should_stop=False)
        consumer: Any = app.consumer
        work = asyncio.create_task(consumer._drain_messages(fetcher))
        await asyncio.sleep(0)
        fetcher.should_stop = stopped
        work.cancel()
        await asyncio.wait([work])
        return work.cancelled()

    assert asyncio.run(run()) is not stopped
