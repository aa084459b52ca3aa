"""`python -m services.cleaner`: the one place that builds real clients."""

import signal
import sys
from functools import partial

import structlog

from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import collector, logs, metrics
from retail_stream.service import readiness as probes
from retail_stream.service import signals as stopping
from retail_stream.settings import load
from retail_stream.topics import TOPICS, raw, topic
from retail_stream.waiting import wait_for
from services.cleaner.app import build
from services.cleaner.delivery import Delivery
from services.cleaner.metrics import LAG, behind
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import run


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2) or too many rejects (3)."""
    try:
        settings = load(CleanerSettings)
        logs.configure("cleaner")
        health = metrics.serve(settings.metrics_port)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    log = structlog.get_logger()
    # From the end of the wait until the app takes the signal over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    registry = Registry(settings.schema_registry_url)
    with stopping.at_once():
        wait_for(lambda: require_topics(settings, [t.name for t in TOPICS]))
        # Without it nothing can be decoded: so no partitions are taken from a replica that may know its schemas.
        wait_for(partial(registry.versions, topic(raw(Entity.SALES)).subject))
    collector.look_rarely()
    log.info("cleaner starts", kafka=settings.kafka_bootstrap_servers, dlq_max_ratio=settings.dlq_max_ratio)
    app = build(settings, registry, Delivery(partial(clients.producer, settings)))
    LAG.read = lambda: behind(app.progress())
    health.needs(assigned=lambda: app.is_settled, kafka=probes.kafka_answers(settings))
    code = run(app)
    log.info("cleaner stopped", exit_code=code)
    return code


if __name__ == "__main__":
    sys.exit(main())
