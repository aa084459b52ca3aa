"""The data flow of the cleaner: four agents, one per entity, each over chunks of one partition.

<entity>.raw ──chunk──▶ decode, judge, default ──▶ <entity>.clean
                                 └── rejected ───▶ <entity>.dlq
"""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.registry import Registry
from retail_stream.topics import SCHEMAS, Group
from retail_stream.wire import Writer
from services.cleaner import metrics
from services.cleaner.delivery import Delivery
from services.cleaner.forward import Forwarder, NotLearnt
from services.cleaner.rejects import RejectRatio
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import App, Chunk
from services.cleaner.transport.consumer import ChunkConsumer


def build(settings: CleanerSettings, registry: Registry, delivery: Delivery) -> App:
    """Wire the app; nothing connects before it runs."""
    app = App(Group.CLEANER, broker=f"kafka://{settings.kafka_bootstrap_servers.replace(',', ';kafka://')}")
    # One thread for all that computes: several would only wait for each other's interpreter lock. The event loop keeps
    # the group's heartbeats going meanwhile.
    desk = ThreadPoolExecutor(1, thread_name_prefix="cleaner")
    for entity in Entity:
        schema = json.loads((SCHEMAS / "raw" / f"{entity}.avsc").read_text())
        forwarder = Forwarder(entity, registry, delivery, Writer(schema))
        _agent(app, desk, forwarder, RejectRatio(entity, settings.dlq_max_ratio))
    return app


def _agent(app: App, desk: ThreadPoolExecutor, forwarder: Forwarder, ratio: RejectRatio) -> None:
    @app.agent(app.topic(topics.raw(forwarder.entity)), name=f"clean_{forwarder.entity}")
    async def agent(chunks: Any) -> None:
        loop = asyncio.get_running_loop()
        chunk: Chunk
        async for chunk in chunks:
            started = time.perf_counter()
            try:
                cleaned = await loop.run_in_executor(desk, forwarder.forward, chunk.records)
            except NotLearnt as new:
                # In a thread of its own: while the registry is away, other entities go on.
                await asyncio.to_thread(forwarder.learn, new.ids)
                cleaned = await loop.run_in_executor(desk, forwarder.forward, chunk.records)
            metrics.BATCH_RECORDS.observe(len(chunk))
            metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
            too_many = ratio.observe(len(chunk), cleaned.rejected)
            if too_many is not None:
                # What tripped it is delivered and counts as done; only what follows is left for later.
                cast("ChunkConsumer", app.consumer).take_back(chunk, done=True)
                raise too_many
