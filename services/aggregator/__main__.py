"""`python -m services.aggregator`: the one place that builds real clients."""

import sys
import threading
from functools import partial

import structlog
from sqlalchemy import text

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError, SettingsError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import collector, logs, metrics
from retail_stream.service import readiness as probes
from retail_stream.service import signals as stopping
from retail_stream.settings import load
from retail_stream.topics import TOPICS, Group, Result
from retail_stream.warehouse import postgres
from services.aggregator import loop, outbox, settings, warehouse
from services.aggregator.desk import Desk, Stopped, wait
from services.aggregator.relay import Relay
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
        desk, relay = build(config, stop)
        thread = threading.Thread(target=guarded, args=(relay, stop), name="outbox", daemon=True)
        thread.start()
        health.needs(
            assigned=desk.assigned.is_set,
            kafka=probes.kafka_answers(config),
            postgres=probes.postgres_answers(desk.engine),
        )
        collector.look_rarely()
        log.info("aggregator starts", **{k.lower(): v for k, v in config.shaping.items()})
        loop.run(desk)
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


def build(config: settings.AggregatorSettings, stop: threading.Event) -> tuple[Desk, Relay]:
    """Wait for the servers, check the stored settings, and build what the loop and the relay work with."""
    engine = postgres.service_engine(config.database_url, "aggregator")
    registry = Registry(config.schema_registry_url)
    clean = topics.topic(topics.clean(Entity.SALES))
    # A relay keeps its lock between transactions too: one that froze loses it after five minutes.
    outbox_engine = postgres.service_engine(config.database_url, "outbox", idle_session_timeout="5min")
    relay = Relay(config, outbox_engine, stop)
    waiting = partial(wait, stop)
    writers = SubjectSchemas(registry, clean.subject, waiting)

    def ready() -> dict[Result, int]:
        require_topics(config, [t.name for t in TOPICS])
        writers.learn()
        ids = {t: registry.register(topics.topic(t).subject, schema) for t, schema in outbox.schemas().items()}
        with warehouse.transaction(engine) as connection:
            if connection.execute(text("SELECT to_regclass('outbox')")).scalar_one() is None:
                raise Unavailable("The warehouse has no tables yet: `retail-stream init` creates them.")
            settings.keep(connection, config.shaping)
        return ids

    desk = Desk(
        settings=config,
        topic=clean.name,
        engine=engine,
        consumer=lambda: clients.consumer(config, Group.AGGREGATOR),
        writers=writers,
        rise_writers=SubjectSchemas(registry, topics.topic(Result.WATERMARKS).subject, waiting),
        sale=RecordSchema(clean.schema()),
        encoder=outbox.Encoder(waiting(ready), config.rules),
        upstream=Upstream(config),
        published=relay.wake.set,
        stop=stop,
        assigned=threading.Event(),
    )
    return desk, relay


if __name__ == "__main__":
    sys.exit(main())
