"""`python -m services.aggregator`: the one place that builds real clients."""

import sys
import threading

import structlog
from sqlalchemy import text

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import readiness
from retail_stream.service.program import Program, collect_garbage_rarely, run_program
from retail_stream.topics import TOPICS, Group, Result
from retail_stream.warehouse import postgres
from services.aggregator import loop, outbox, settings, warehouse
from services.aggregator.desk import Desk
from services.aggregator.relay import Relay
from services.aggregator.upstream import Upstream


def main() -> int:
    """Run until SIGTERM or SIGINT (0), a wrong setting (2), or an error that a person must look at (1)."""
    return run_program("aggregator", settings.AggregatorSettings, aggregate)


def aggregate(program: Program, config: settings.AggregatorSettings) -> None:
    """Wait for the servers, then aggregate and publish until the program is to stop."""
    desk, relay = build(program, config)
    outbox_failed = threading.Event()

    def publish() -> None:
        # Without the relay no result would be published: its failure ends the program.
        try:
            relay.run()
        except BaseException:
            structlog.get_logger().exception("outbox failed")
            outbox_failed.set()
            program.stop.set()

    program.health.needs(
        assigned=desk.assigned.is_set,
        kafka=readiness.kafka_answers(config),
        postgres=readiness.postgres_answers(desk.engine),
    )
    collect_garbage_rarely()
    program.starts(**{k.lower(): v for k, v in config.shaping.items()})
    thread = threading.Thread(target=publish, name="outbox", daemon=True)
    thread.start()
    loop.run(desk)
    program.stop.set()
    relay.wake.set()
    thread.join(5)
    if outbox_failed.is_set():
        raise RetailStreamError("Results are not published any more; the log says why.")


def build(program: Program, config: settings.AggregatorSettings) -> tuple[Desk, Relay]:
    """Wait for the servers, check the stored settings, and build what the loop and the relay work with."""
    engine = postgres.service_engine(config.database_url, "aggregator")
    registry = Registry(config.schema_registry_url)
    clean = topics.topic(topics.clean(Entity.SALES))
    # A relay keeps its lock between transactions too: one that froze loses it after five minutes.
    outbox_engine = postgres.service_engine(config.database_url, "outbox", idle_session_timeout="5min")
    relay = Relay(config, outbox_engine, program.stop)
    writers = SubjectSchemas(registry, clean.subject, program.wait)

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
        rise_writers=SubjectSchemas(registry, topics.topic(Result.WATERMARKS).subject, program.wait),
        sale=RecordSchema(clean.schema()),
        encoder=outbox.Encoder(program.wait(ready), config.rules),
        upstream=Upstream(config),
        published=relay.wake.set,
        stop=program.stop,
        assigned=threading.Event(),
    )
    return desk, relay


if __name__ == "__main__":
    sys.exit(main())
