"""`python -m services.scd_merger`: the one place that builds real clients."""

from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import readiness
from retail_stream.service.program import Program, leave, run_program
from retail_stream.topics import Group, topic
from retail_stream.warehouse import postgres
from retail_stream.warehouse.topics_read import TopicsRead
from services.scd_merger.batch import Merger
from services.scd_merger.dimensions import dimensions
from services.scd_merger.loop import run
from services.scd_merger.metrics import LAG
from services.scd_merger.settings import MergerSettings


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2) or a record that cannot be stored (1)."""
    return run_program("scd_merger", MergerSettings, merge)


def merge(program: Program, settings: MergerSettings) -> None:
    """Wait for the servers, then merge changes until the program is to stop."""
    declared = {d.topic: d for d in dimensions()}
    registry = Registry(settings.schema_registry_url)
    writers = {name: SubjectSchemas(registry, topic(name).subject, program.wait) for name in declared}
    program.wait(lambda: require_topics(settings, declared))
    for known in writers.values():
        program.wait(known.learn)
    engine = postgres.service_engine(settings.database_url, "scd_merger", program.stop)
    topics_read = TopicsRead(settings, [d.entity for d in declared.values()])
    merger = Merger(engine, declared.values(), writers, topics_read, program.wait)
    membership = BlockingMembership(settings, Group.SCD_MERGER, declared, merger.claim)
    LAG.read = membership.lag
    program.health.needs(
        assigned=lambda: membership.joined,
        reading=lambda: membership.reading,
        topics=lambda: topics_read.are_same,
        kafka=readiness.kafka_answers(settings),
        postgres=readiness.postgres_answers(engine),
    )
    program.starts(kafka=settings.kafka_bootstrap_servers, postgres=postgres.address(engine))
    try:
        run(membership, merger, program.stop)
    finally:
        engine.dispose()


if __name__ == "__main__":
    leave(main())
