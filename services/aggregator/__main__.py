"""`python -m services.aggregator`: the one place that builds real clients."""

import sys
import threading
from functools import partial

import structlog
from sqlalchemy import Engine, text

from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.errors import RetailStreamError, SettingsError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import collector, logs, metrics
from retail_stream.service import readiness as probes
from retail_stream.service import signals as stopping
from retail_stream.settings import load
from retail_stream.topics import TOPICS, Group, Result
from retail_stream.warehouse import postgres
from services.aggregator import metrics as metrics_of
from services.aggregator import outbox, settings, warehouse
from services.aggregator.batch import CLEAN, Aggregator
from services.aggregator.loop import Loop
from services.aggregator.relay import Relay
from services.aggregator.stopping import Stopped, wait
from services.aggregator.upstream import Upstream


def main() -> int:
    """Run until SIGTERM or SIGINT (0), a wrong setting (2), or an error that a person must look at (1)."""
    try:
        config = load(settings.AggregatorSettings)
        logs.configure("aggregator")
        health = metrics.serve(config.metrics_port)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    log = structlog.get_logger()
    stop = threading.Event()
    stopping.sets(stop)
    try:
        loop, relay, engine = build(config, stop)
        metrics_of.LAG.read = loop.membership.lag
        thread = threading.Thread(target=guarded, args=(relay, stop), name="outbox", daemon=True)
        thread.start()
        health.needs(
            assigned=lambda: loop.membership.joined,
            kafka=probes.kafka_answers(config),
            postgres=probes.postgres_answers(engine),
        )
        collector.look_rarely()
        log.info("aggregator starts", **{k.lower(): v for k, v in config.shaping.items()})
        loop.run()
        stop.set()
        relay.wake.set()
        thread.join(5)
    except Stopped:
        pass
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    except RetailStreamError as e:
        log.error("aggregator stops", why=str(e))
        return e.exit_code
    if relay_failed.is_set():
        return 1
    log.info("aggregator stopped")
    return 0


relay_failed = threading.Event()


def guarded(relay: Relay, stop: threading.Event) -> None:
    """Run the relay; without it results would never be published, so its failure ends the program."""
    try:
        relay.run()
    except BaseException:
        structlog.get_logger().exception("outbox failed")
        relay_failed.set()
        stop.set()


def build(config: settings.AggregatorSettings, stop: threading.Event) -> tuple[Loop, Relay, Engine]:
    """Wait for the servers, check the stored settings, and build the loop, the relay and the loop's engine."""
    engine = postgres.service_engine(config.database_url, "aggregator")
    # A relay keeps its lock between transactions too; a relay that froze loses it after five minutes.
    outbox_engine = postgres.service_engine(config.database_url, "outbox", idle_session_timeout="5min")
    relay = Relay(config, outbox_engine, stop)
    registry = Registry(config.schema_registry_url)
    waiting = partial(wait, stop)
    writers, rise_writers = (SubjectSchemas(registry, f"{t}-value", waiting) for t in (CLEAN, Result.WATERMARKS))

    def ready() -> dict[Result, int]:
        require_topics(config, [t.name for t in TOPICS])
        writers.learn()
        ids = {t: registry.register(f"{t}-value", schema) for t, schema in outbox.schemas().items()}
        with warehouse.transaction(engine) as connection:
            if connection.execute(text("SELECT to_regclass('outbox')")).scalar_one() is None:
                raise Unavailable("The warehouse has no tables yet: `retail-stream init` creates them.")
            settings.keep(connection, config.shaping)
        return ids

    encoder = outbox.Encoder(waiting(ready), config.rules)
    aggregator = Aggregator(engine, config, encoder, writers, rise_writers, relay.wake.set)
    connect = partial(clients.consumer, config, Group.AGGREGATOR)
    return Loop(connect, aggregator, Upstream(config), config.idle_timeout_s, stop), relay, engine


if __name__ == "__main__":
    sys.exit(main())
