"""The data flow of the cleaner: four agents, one per entity, each over chunks of one partition.

<entity>.raw ──chunk──▶ decode, judge, default ──▶ <entity>.clean
                                 └── rejected ───▶ <entity>.dlq
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka.delivery import Delivery
from retail_stream.kafka.limits import BatchLimits
from retail_stream.topics import Group
from retail_stream.waiting import Wait
from services.cleaner import metrics
from services.cleaner.channels import App
from services.cleaner.feed import Chunk
from services.cleaner.forward import Forwarder
from services.cleaner.rejects import RejectRatio

#: Chunks of one entity that are worked on at a time, each of another partition: while some are sent, others are
#: computed.
AT_A_TIME = 4


def build(
    registry: Registry, delivery: Delivery, limits: BatchLimits, dlq_max_ratio: float, wait: Wait
) -> tuple[App, dict[str, Any]]:
    """The app, and the channel that each raw topic's chunks go to. ``wait``: waits for a server that is away."""
    app = App(Group.CLEANER)
    # One thread computes for all entities: several would only wait for the interpreter lock. Meanwhile the event loop
    # reads, sends, and keeps the membership.
    computing = ThreadPoolExecutor(1, thread_name_prefix="cleaner")

    async def compute(function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(computing, function, *arguments)

    channels = {}
    for entity in Entity:
        channel = channels[topics.raw(entity)] = app.channel()
        forwarder = Forwarder(entity, registry, delivery, limits, compute, wait)
        _agent(app, channel, forwarder, RejectRatio(entity, dlq_max_ratio))
    return app, channels


def _agent(app: App, channel: Any, forwarder: Forwarder, ratio: RejectRatio) -> None:
    @app.agent(channel, name=f"clean_{forwarder.entity}", concurrency=AT_A_TIME)
    async def agent(chunks: Any) -> None:
        chunk: Chunk
        async for chunk in chunks:
            delivered = await forwarder.forward(chunk.records.pieces)
            if delivered.records:
                metrics.observe(forwarder.entity, delivered)
            # A letter that is still bad was counted when it was rejected first.
            if why := ratio.observe(delivered.records, delivered.fresh):
                # The chunk that tripped the ratio is delivered and acknowledged; what follows it is not.
                chunk.acknowledge()
                raise why
