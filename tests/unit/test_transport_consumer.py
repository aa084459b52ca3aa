"""The transport's consumer, without a broker."""

import asyncio

from services.cleaner.transport import App


def test_a_consumer_whose_flow_is_stopped_lets_its_caller_look_around() -> None:
    async def run() -> None:
        app = App("unit", broker="kafka://127.0.0.1:1")
        consumer = app.consumer
        consumer.stop_flow()
        async with asyncio.timeout(5):
            assert [message async for message in consumer.getmany(timeout=0.01)] == []

    asyncio.run(run())
