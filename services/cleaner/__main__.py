"""`python -m services.cleaner`: the one place that builds real clients."""

import sys
from functools import partial

from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import require_topics
from retail_stream.rules import published
from retail_stream.service import readiness
from retail_stream.service.program import Program, collect_garbage_rarely, run_program
from retail_stream.topics import TOPICS, raw, topic
from services.cleaner.app import build
from services.cleaner.delivery import Delivery
from services.cleaner.expectations import rule_sets
from services.cleaner.metrics import LAG, begin_at_zero, behind
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import run


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2), too many rejects (3) or an error that no retry mends (1)."""
    return run_program("cleaner", CleanerSettings, clean)


def clean(program: Program, settings: CleanerSettings) -> int:
    """Wait for the servers, then clean until the program is to stop; returns the exit code."""
    begin_at_zero()
    registry = Registry(settings.schema_registry_url)
    program.wait(lambda: require_topics(settings, [t.name for t in TOPICS]))
    # A record that names rules which are nowhere written down could never be judged again.
    program.wait(lambda: published.publish(settings, rule_sets().values()))
    # Without the registry nothing can be decoded. Partitions then stay with a replica that may know the schemas.
    program.wait(partial(registry.versions, topic(raw(Entity.SALES)).subject))
    delivery = Delivery(partial(clients.producer, settings), program.stop)
    app = build(settings, registry, delivery, program.wait)
    LAG.read = lambda: behind(app.progress())
    program.health.needs(assigned=lambda: app.is_settled, kafka=readiness.kafka_answers(settings))
    collect_garbage_rarely()
    program.starts(kafka=settings.kafka_bootstrap_servers, dlq_max_ratio=settings.dlq_max_ratio)
    return run(app, program.stop)


if __name__ == "__main__":
    sys.exit(main())
