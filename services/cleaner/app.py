"""The data flow of the cleaner: four agents, one per entity, each over chunks of one partition.

<entity>.raw ──chunk──▶ decode, judge, default ──▶ <entity>.clean
                                 └── rejected ───▶ <entity>.dlq
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faust

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.security import KafkaSecurity
from retail_stream.topics import Group
from retail_stream.waiting import Wait
from services.cleaner.delivery import Delivery
from services.cleaner.forward import Forwarder, NotLearnt, Sent
from services.cleaner.rejects import RejectRatio
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import App, Chunk, Chunking

T = TypeVar("T")

#: How many records of one entity are sent before their delivery is awaited: a third of a second's work.
MOST_SENT = 100_000


def build(settings: CleanerSettings, registry: Registry, delivery: Delivery, wait: Wait) -> App:
    """Wire the app; nothing connects before it runs. ``wait``: waits for a registry that is away."""
    app = App(
        Group.CLEANER,
        broker=f"kafka://{settings.kafka_bootstrap_servers.replace(',', ';kafka://')}",
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.kafka_session_timeout_s,
        broker_heartbeat_interval=settings.kafka_heartbeat_s,
        chunking=Chunking(librdkafka=settings.librdkafka()),
    )
    # One thread computes for all entities: several would only wait for the interpreter lock. Meanwhile the event loop
    # sends the group's heartbeats.
    computing = ThreadPoolExecutor(1, thread_name_prefix="cleaner")
    for entity in Entity:
        schema = topics.topic(topics.raw(entity)).schema()
        forwarder = Forwarder(entity, registry, delivery, RecordSchema(schema), wait)
        _agent(app, computing, forwarder, RejectRatio(entity, settings.dlq_max_ratio))
    return app


def credentials(security: KafkaSecurity) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """The same as ``librdkafka()``, for the aiokafka client of Faust."""
    context = security.ssl_context()
    if security.sasl and security.kafka_sasl_password is not None:
        return faust.SASLCredentials(
            username=security.kafka_sasl_username,
            password=security.kafka_sasl_password.get_secret_value(),
            mechanism=str(security.kafka_sasl_mechanism),
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _agent(app: App, computing: ThreadPoolExecutor, forwarder: Forwarder, ratio: RejectRatio) -> None:
    @app.agent(app.topic(topics.raw(forwarder.entity)), name=f"clean_{forwarder.entity}")
    async def agent(chunks: Any) -> None:
        def compute(work: Callable[..., T], *arguments: Any) -> Awaitable[T]:
            return asyncio.get_running_loop().run_in_executor(computing, work, *arguments)

        sent: list[Sent] = []
        chunk: Chunk
        async for chunk in chunks:
            try:
                sent.append(await compute(forwarder.send, chunk.records))
            except NotLearnt as new:
                # In another thread: while the registry is away, other entities go on.
                await asyncio.to_thread(forwarder.learn, new.ids)
                sent.append(await compute(forwarder.send, chunk.records))
            why = ratio.observe(sent[-1].records, sent[-1].cleaned.rejected)
            # Waiting for the brokers costs as much for several chunks as for one.
            if why is None and sum(one.records for one in sent) < MOST_SENT and chunks.has_more:
                chunks.defer()
                continue
            await compute(forwarder.finish, sent)
            sent.clear()
            if why is not None:
                # The chunk that tripped the ratio is delivered and acknowledged; what follows it is not.
                chunks.acknowledge()
                raise why
