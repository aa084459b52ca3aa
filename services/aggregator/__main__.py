"""`python -m services.aggregator`: the one place that builds real clients."""

import threading
from functools import partial

import structlog
from sqlalchemy import Engine, text

from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import readiness
from retail_stream.service.program import Program, leave, run_program
from retail_stream.topics import TOPICS, Group, Result, topic
from retail_stream.warehouse import postgres
from retail_stream.warehouse.topics_read import TopicsRead
from services.aggregator import metrics, outbox, settings, tables, warehouse
from services.aggregator.batch import CLEAN, Aggregator
from services.aggregator.loop import Loop
from services.aggregator.ownership import OwnedPartition
from services.aggregator.relay import Relay
from services.aggregator.upstream import Upstream


def main() -> int:
    """Run until SIGTERM or SIGINT (0), a wrong setting (2), or an error that a person must look at (1)."""
    return run_program("aggregator", settings.AggregatorSettings, aggregate)


def aggregate(program: Program, config: settings.AggregatorSettings) -> None:
    """Wait for the servers, then aggregate and publish until the program is to stop."""
    topics_read = TopicsRead(config, [Entity.SALES])
    loop, relay, engine = build(program, config, topics_read)
    outbox_failed = threading.Event()

    def publish() -> None:
        # Without the relay no result would be published: its failure ends the program.
        try:
            relay.run()
        except BaseException:
            structlog.get_logger().exception("outbox failed")
            outbox_failed.set()
            program.stop.set()

    metrics.LAG.read = loop.membership.lag
    program.health.needs(
        assigned=lambda: loop.membership.joined,
        reading=lambda: loop.membership.reading,
        topics=lambda: topics_read.are_same,
        kafka=readiness.kafka_answers(config),
        postgres=readiness.postgres_answers(engine),
    )
    program.starts(**{k.lower(): v for k, v in config.shaping.items()})
    thread = threading.Thread(target=publish, name="outbox", daemon=True)
    thread.start()
    loop.run()
    program.stop.set()
    relay.wake.set()
    thread.join(5)
    if outbox_failed.is_set():
        raise RetailStreamError("Results are not published any more; the log says why.")


def build(program: Program, config: settings.AggregatorSettings, topics_read: TopicsRead) -> tuple[Loop, Relay, Engine]:
    """Wait for the servers, check the stored settings, and build the loop, the relay and the engine of the loop."""
    engine = postgres.service_engine(config.database_url, "aggregator", program.stop)
    registry = Registry(config.schema_registry_url)
    # A relay keeps its lock between transactions; a relay that froze loses it after five minutes.
    outbox_engine = postgres.service_engine(config.database_url, "outbox", program.stop, idle_session_timeout="5min")
    relay = Relay(config, outbox_engine, program.stop)
    writers, rise_writers = (
        SubjectSchemas(registry, topic(t).subject, program.wait) for t in (CLEAN, Result.WATERMARKS)
    )

    metrics.begin(config.rules.groupings)

    def ready() -> outbox.Encoder:
        require_topics(config, [t.name for t in TOPICS])
        writers.learn()
        ids = {t: registry.register(topic(t).subject, schema) for t, schema in outbox.schemas().items()}
        with warehouse.transaction(engine) as connection:
            if connection.execute(text("SELECT to_regclass('outbox')")).scalar_one() is None:
                raise Unavailable("The warehouse has no tables yet: `retail-stream init` creates them.")
            settings.keep(connection, config.shaping)
            tables.require(connection, config.declared)
        schema = outbox.further_schema(config.declared)
        further = 0 if schema is None else registry.register(topic(Result.WINDOWS).subject, schema)
        return outbox.Encoder(ids, config.rules, further)

    encoder = program.wait(ready)
    aggregator = Aggregator(engine, config, encoder, writers, rise_writers, topics_read, relay.wake.set, program.wait)
    join = partial(BlockingMembership[OwnedPartition], config, Group.AGGREGATOR)
    return Loop(join, aggregator, Upstream(config), config.idle_timeout_s, program.stop), relay, engine


if __name__ == "__main__":
    leave(main())
