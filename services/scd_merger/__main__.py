"""`python -m services.scd_merger`: the one place that builds real clients."""

import sys
import threading
from collections.abc import Callable
from functools import partial

import structlog

from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.kafka import clients
from retail_stream.kafka.membership import Membership
from retail_stream.kafka.offsets import require_topics
from retail_stream.service import collector, logs, metrics
from retail_stream.service import readiness as probes
from retail_stream.service import signals as stopping
from retail_stream.settings import load
from retail_stream.topics import Group
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from services.scd_merger.batch import Merger
from services.scd_merger.dimensions import dimensions
from services.scd_merger.loop import run
from services.scd_merger.metrics import LAG
from services.scd_merger.settings import MergerSettings
from services.scd_merger.stopping import Stopped, stop_check


def main() -> int:
    """Run until SIGTERM (0), a wrong setting (2) or a record that cannot be stored (1)."""
    try:
        settings = load(MergerSettings)
        logs.configure("scd_merger")
        health = metrics.serve(settings.metrics_port)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    log = structlog.get_logger()
    stop = threading.Event()
    # The batch in hand is finished; a second signal does not wait for it.
    stopping.sets(stop, second_kills=True)
    check = partial(stop_check, stop)
    declared = {d.topic: d for d in dimensions()}

    registry = Registry(settings.schema_registry_url)

    def patiently(action: Callable[[], None]) -> None:
        def attempt() -> None:
            check()
            action()

        wait_for(attempt)

    writers = {topic: SubjectSchemas(registry, f"{topic}-value", patiently) for topic in declared}

    def initialised() -> None:
        require_topics(settings, declared)
        for known in writers.values():
            check()
            known.learn()

    engine = postgres.service_engine(settings.database_url, "scd_merger")
    merger = Merger(engine, declared.values(), writers, check)
    try:
        patiently(initialised)
        membership = Membership(partial(clients.consumer, settings, Group.SCD_MERGER), declared, merger.claim)
        LAG.read = membership.lag
        health.needs(
            assigned=lambda: membership.joined,
            kafka=probes.kafka_answers(settings),
            postgres=probes.postgres_answers(engine),
        )
        collector.look_rarely()
        log.info("scd_merger starts", kafka=settings.kafka_bootstrap_servers, postgres=postgres.address(engine))
        run(membership, merger, stop)
    except Stopped:
        pass
    except RetailStreamError as e:
        log.error("scd_merger stops", why=str(e), exit_code=e.exit_code)
        return e.exit_code
    finally:
        engine.dispose()
    log.info("scd_merger stopped", exit_code=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
