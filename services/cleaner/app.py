"""The data flow of the cleaner: four agents, one per entity, each over chunks of one partition.

<entity>.raw ──chunk──▶ decode, judge, default ──▶ <entity>.clean
                                 └── rejected ───▶ <entity>.dlq
"""

import asyncio
import json
import time
from typing import Any, cast

from confluent_kafka import Producer

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.registry import Registry
from retail_stream.topics import SCHEMAS, Group
from retail_stream.wire import Writer
from services.cleaner import metrics
from services.cleaner.forward import Forwarder
from services.cleaner.rejects import RejectRatio
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import App, Chunk
from services.cleaner.transport.consumer import ChunkConsumer


def build(settings: CleanerSettings, registry: Registry, producer: Producer) -> App:
    """Wire the app; nothing connects before it runs."""
    app = App(Group.CLEANER, broker=f"kafka://{settings.kafka_bootstrap_servers.replace(',', ';kafka://')}")
    for entity in Entity:
        schema = json.loads((SCHEMAS / "raw" / f"{entity}.avsc").read_text())
        forwarder = Forwarder(entity, registry, producer, Writer(schema))
        _agent(app, forwarder, RejectRatio(entity, settings.dlq_max_ratio))
    return app


def _agent(app: App, forwarder: Forwarder, ratio: RejectRatio) -> None:
    @app.agent(app.topic(topics.raw(forwarder.entity)), name=f"clean_{forwarder.entity}")
    async def agent(chunks: Any) -> None:
        chunk: Chunk
        async for chunk in chunks:
            started = time.perf_counter()
            # In a thread: the event loop keeps the group's heartbeats going while a chunk is decoded and delivered.
            rejected = await asyncio.to_thread(forwarder.forward, chunk.records)
            metrics.BATCH_RECORDS.observe(len(chunk))
            metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
            too_many = ratio.observe(rejected)
            if too_many is not None:
                # What tripped it is delivered and counts as done; only what follows is left for later.
                cast("ChunkConsumer", app.consumer).take_back(chunk, done=True)
                raise too_many
