"""`python -m services.generator`: the one place where the generator's parts are put together."""

import os
import random
import secrets
import sys
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import structlog

from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import JOINED, Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka.offsets import require_topics, topic_partitions
from retail_stream.service import readiness
from retail_stream.service.program import Program, run_program
from retail_stream.topics import Result
from services.generator.loop import change, sell
from services.generator.publishing import evolution
from services.generator.publishing.columns import ColumnEncoder
from services.generator.publishing.ledger import Ledger
from services.generator.publishing.producers import Outage
from services.generator.publishing.publisher import Publisher
from services.generator.publishing.records import Encoder, Evolution
from services.generator.publishing.transactions import Transactions
from services.generator.retailer.catalogue import KINDS
from services.generator.retailer.dimension import DimensionStream, State
from services.generator.retailer.pools import Pools
from services.generator.retailer.sales import VOCABULARIES, SalesStream, Tail
from services.generator.retailer.supply import Supply
from services.generator.settings import CHANGES_PER_S, SALES_PER_S, GeneratorSettings, check_names
from services.generator.state.lease import Lease
from services.generator.state.reading import Reader
from services.generator.timing import timeline as timelines
from services.generator.timing.schedule import SECOND_US
from services.generator.timing.timeline import Progress, Timeline
from services.generator.timing.traffic import Traffic

_LOG_EVERY_S = 10.0
_log = structlog.get_logger("services.generator")


def main() -> int:
    """Run until SIGTERM or the last sale (0), a wrong setting (2), or an error that a person must look at (1)."""
    return run_program("generator", GeneratorSettings, generate)


def generate(program: Program, settings: GeneratorSettings) -> None:
    """Go on from what the topics hold, until the program is to stop or the last sale."""
    check_names(os.environ)
    _check_start(settings)
    registry = Registry(settings.schema_registry_url)
    schemas: dict[Entity, Any] = {e: topics.topic(topics.raw(e)).schema() for e in Entity}
    schema_ids = {e: _register(program, registry, topics.raw(e), schemas[e]) for e in Entity}
    faults_schema = topics.topic(Result.FAULTS).schema()
    ledger = Ledger(faults_schema, _register(program, registry, Result.FAULTS, faults_schema))
    outage = Outage(settings)
    lease = Lease(settings)
    transactions = {e: Transactions(settings, e, program.stop, outage, lease) for e in Entity}
    program.wait(partial(require_topics, settings, [*map(topics.raw, Entity), Result.FAULTS]))
    # Before anything is read: whoever had these ids writes no more, and what it left open is aborted.
    for take in (lease.take, *(t.open for t in transactions.values())):
        program.wait(take)
    partitions = len(program.wait(partial(topic_partitions, settings, topics.raw(Entity.SALES))))
    reader = Reader(settings, registry, schemas)
    states = {e: program.wait(partial(reader.dimension, e)) for e in JOINED}
    tail = program.wait(reader.sales)

    seed = secrets.randbits(32) if settings.generator_seed is None else settings.generator_seed
    progress = Progress(0)
    traffic = {e: Traffic(f"{seed}/{e}", settings.faults, partitions if e is Entity.SALES else 0) for e in Entity}
    timeline = _timeline(settings, states, tail, progress, traffic)
    program.starts(
        seed=seed,
        time="simulated" if settings.simulated else "live",
        start=datetime.fromtimestamp(timeline.start_us / SECOND_US, UTC).isoformat(),
        sales_per_s=settings.generator_sales_per_s,
        changes_per_s=settings.generator_changes_per_s,
        next_sale=tail.next_id,
        **{f"next_{e}": states[e].next_id for e in JOINED},
    )
    pools = Pools(seed)
    evolutions = _evolutions(program, settings, registry, timeline.start_us)
    supplies = {e: Supply() for e in JOINED}
    publishers = {e: Publisher(e, transactions[e], ledger, program.stop, supplies[e]) for e in JOINED}
    publishers[Entity.SALES] = Publisher(Entity.SALES, transactions[Entity.SALES], ledger, program.stop)
    program.health.needs(running=lambda: not program.stop.is_set(), kafka=readiness.kafka_answers(settings))
    with ThreadPoolExecutor(max_workers=len(Entity), thread_name_prefix="generator") as threads:
        changing = [
            threads.submit(
                change,
                DimensionStream(
                    KINDS[e],
                    random.Random(f"{seed}/{e}/{states[e].records}"),
                    pools,
                    settings.faults,
                    Encoder(schemas[e], schema_ids[e]),
                    states[e],
                    evolutions.get(e),
                ),
                supplies[e],
                timeline,
                publishers[e],
                program.stop,
            )
            for e in JOINED
        ]
        sales = SalesStream(
            np.random.default_rng([seed, tail.next_id]),
            settings.faults,
            int(settings.latency_max_s * SECOND_US),
            ColumnEncoder(schemas[Entity.SALES], schema_ids[Entity.SALES], VOCABULARIES),
            tail,
            settings.latency_distribution,
            partitions,
            evolutions.get(Entity.SALES),
        )
        selling = threads.submit(
            sell,
            sales,
            supplies,
            timeline,
            publishers[Entity.SALES],
            program.stop,
            settings.generator_max_sales,
            progress,
        )
        _watch(changing, selling, publishers, program.stop, simulated=settings.simulated)


def _watch(
    changing: list[Future[None]],
    selling: Future[None],
    publishers: dict[Entity, Publisher],
    stop: threading.Event,
    simulated: bool,
) -> None:
    """Log the counts until all threads are done; one that fails, and the last live sale, stop the others."""
    running = {selling, *changing}
    try:
        while running:
            done, running = wait(running, timeout=_LOG_EVERY_S, return_when=FIRST_COMPLETED)
            for thread in done:
                thread.result()
            if selling.done() and not simulated:
                stop.set()
            if not done or not running:
                faults = sum((p.planted for p in publishers.values()), start=Counter())
                planted = {str(f): n for f, n in sorted(faults.items())}
                _log.info("published", **{str(e): p.sent for e, p in publishers.items()}, faults=planted)
    finally:
        stop.set()


def _register(program: Program, registry: Registry, topic: str, schema: Any) -> int:
    return program.wait(lambda: registry.register(topics.topic(topic).subject, schema))


def _evolutions(
    program: Program, settings: GeneratorSettings, registry: Registry, start_us: int
) -> dict[Entity, Evolution]:
    """By entity, when its newer schema comes, which is registered now."""
    if settings.generator_evolve_after_s is None:
        return {}
    at_us = start_us + int(settings.generator_evolve_after_s * SECOND_US)
    ids = {e: _register(program, registry, topics.raw(e), evolution.schema(e)) for e in Entity}
    encode: dict[Entity, Any] = {e: evolution.rows(e, ids[e]) for e in JOINED}
    encode[Entity.SALES] = evolution.columns(ids[Entity.SALES])
    return {e: Evolution(at_us, encode[e]) for e in Entity}


def _timeline(
    settings: GeneratorSettings,
    states: dict[Entity, State],
    tail: Tail,
    progress: Progress,
    traffic: dict[Entity, Traffic],
) -> Timeline:
    sales, changes = settings.generator_sales_per_s, settings.generator_changes_per_s
    if settings.history_from is None:
        return timelines.live(sales, changes, traffic)
    # Simulated time, too, never goes back on a topic.
    newest = max(tail.newest_us, *(s.newest_us for s in states.values()))
    start = (settings.history_from - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return timelines.simulated(
        max(start, newest + SECOND_US) if newest else start,
        sales or SALES_PER_S,
        changes or CHANGES_PER_S,
        paced=sales > 0 and changes > 0 and settings.generator_backfill_from is None,
        max_sales=settings.generator_max_sales,
        progress=progress,
        traffic=traffic,
        with_hours=settings.generator_backfill_from is not None,
    )


def _check_start(settings: GeneratorSettings) -> None:
    start, backfill = settings.generator_start_time, settings.generator_backfill_from
    if start is not None and backfill is not None:
        raise SettingsError("GENERATOR_START_TIME and GENERATOR_BACKFILL_FROM are both set; allowed: one of them.")
    for name, at in (("GENERATOR_START_TIME", start), ("GENERATOR_BACKFILL_FROM", backfill)):
        if at is not None and at > datetime.now(UTC):
            raise SettingsError(
                f"{name}={at.isoformat()} lies in the future; allowed: a time up to now, "
                "since Kafka takes no record with a later timestamp."
            )


if __name__ == "__main__":
    sys.exit(main())
