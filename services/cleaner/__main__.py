"""`python -m services.cleaner`: the one place that builds real clients."""

import signal
import sys
from functools import partial

import structlog

from retail_stream import collector, kafka, logs, metrics
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.registry import Registry
from retail_stream.settings import load
from retail_stream.topics import TOPICS, raw
from retail_stream.waiting import wait_for
from services.cleaner.app import build
from services.cleaner.delivery import Delivery
from services.cleaner.metrics import Lag
from services.cleaner.settings import CleanerSettings
from services.cleaner.transport import run


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2) or too many rejects (3)."""
    try:
        settings = load(CleanerSettings)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    logs.configure("cleaner")
    log = structlog.get_logger()
    health = metrics.serve(settings.metrics_port)
    # Until the app takes the signal over: there is nothing to finish yet.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wait_for(lambda: kafka.require_topics(settings, [t.name for t in TOPICS]))
    registry = Registry(settings.schema_registry_url)
    # Without it nothing can be decoded: so no partitions are taken from a replica that may know its schemas already.
    wait_for(partial(registry.versions, f"{raw(Entity.SALES)}-value"))
    collector.look_rarely()
    log.info("cleaner starts", kafka=settings.kafka_bootstrap_servers, dlq_max_ratio=settings.dlq_max_ratio)
    app = build(settings, registry, Delivery(partial(kafka.producer, settings)))
    Lag(app.progress)
    health.ready = lambda: app.is_settled
    code = run(app)
    log.info("cleaner stopped", exit_code=code)
    return code


if __name__ == "__main__":
    sys.exit(main())
