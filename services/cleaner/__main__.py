"""`python -m services.cleaner`: the one place that builds real clients."""

import asyncio
from functools import partial

from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.delivery import Delivery, KafkaPartitions
from retail_stream.kafka.limits import BatchLimits, largest_batches
from retail_stream.kafka.offsets import require_topics
from retail_stream.rules import published
from retail_stream.service import readiness
from retail_stream.service.program import Program, collect_garbage_rarely, leave, run_program
from retail_stream.topics import TOPICS, Group, clean, dlq, raw, topic
from services.cleaner.app import build
from services.cleaner.expectations import rule_sets
from services.cleaner.feed import Feed
from services.cleaner.metrics import LAG, begin_at_zero
from services.cleaner.running import run
from services.cleaner.settings import CleanerSettings

#: A chunk that takes longer waits for a server.
_WAITING_S = 10.0


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2), too many rejects (3) or an error that no retry mends (1)."""
    return run_program("cleaner", CleanerSettings, work)


def work(program: Program, settings: CleanerSettings) -> int:
    """Wait for the servers, then clean until the program is to stop; returns the exit code."""
    begin_at_zero()
    registry = Registry(settings.schema_registry_url)
    program.wait(lambda: require_topics(settings, [t.name for t in TOPICS]))
    # A record that names rules which are nowhere written down could never be judged again.
    program.wait(lambda: published.publish(settings, rule_sets().values()))
    # Without the registry nothing can be decoded. Partitions then stay with a replica that may know the schemas.
    program.wait(partial(registry.versions, topic(raw(Entity.SALES)).subject))
    written = {name: _limit_of_init(name) for entity in Entity for name in (clean(entity), dlq(entity))}
    ask = partial(largest_batches, clients.admin(settings), written)
    limits = BatchLimits(lambda: program.wait(ask))
    return asyncio.run(_work(program, settings, registry, limits))


def _limit_of_init(name: str) -> int:
    return int(topic(name).config["max.message.bytes"])


async def _work(program: Program, settings: CleanerSettings, registry: Registry, limits: BatchLimits) -> int:
    partitions = KafkaPartitions(settings, Group.CLEANER)
    servers = settings.kafka_bootstrap_servers
    delivery = Delivery(partitions, servers, outage_is_said=lambda: not feed.membership.reading)
    app, channels = build(registry, delivery, limits, settings.dlq_max_ratio, program.wait)
    feed = Feed(settings, Group.CLEANER, {name: channel.put for name, channel in channels.items()})
    LAG.read = feed.membership.lag
    program.health.needs(
        assigned=lambda: feed.membership.joined,
        reading=lambda: feed.membership.reading,
        delivering=lambda: feed.oldest_s < _WAITING_S,
        kafka=readiness.kafka_answers(settings),
    )
    collect_garbage_rarely()
    program.starts(kafka=servers, dlq_max_ratio=settings.dlq_max_ratio)
    try:
        return await run(app, feed, program.stop)
    finally:
        await partitions.stop()


if __name__ == "__main__":
    leave(main())
