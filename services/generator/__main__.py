"""`python -m services.generator`: the one place where the generator's parts are put together."""

import json
import os
import random
import secrets
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import structlog

from retail_stream import logs, metrics, topics
from retail_stream.entities import JOINED, Entity
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.registry import Registry
from retail_stream.settings import load
from retail_stream.waiting import wait_for
from services.generator import timeline as timelines
from services.generator.catalogue import KINDS
from services.generator.dimension import DimensionStream, State
from services.generator.pools import Pools
from services.generator.publisher import Outage, Publisher
from services.generator.reading import Reader
from services.generator.records import Encoder
from services.generator.sales import SalesStream, Tail
from services.generator.schedule import SECOND_US
from services.generator.settings import CHANGES_PER_S, SALES_PER_S, GeneratorSettings, check_names
from services.generator.supply import Supply
from services.generator.threads import change, sell
from services.generator.timeline import Progress, Timeline

_LOG_EVERY_S = 10.0
_log = structlog.get_logger("services.generator")


def main() -> int:
    """Run until stopped or done; returns the exit code."""
    try:
        check_names(os.environ)
        settings = load(GeneratorSettings)
        _check_start(settings)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    logs.configure("generator")
    started, stop = threading.Event(), threading.Event()
    _stop_on_signals(started, stop)
    try:
        run(settings, started, stop)
    except RetailStreamError as e:
        _log.error("stopped", why=str(e))
        return e.exit_code
    return 0


def run(settings: GeneratorSettings, started: threading.Event, stop: threading.Event) -> None:
    """Go on from what the topics hold, until ``stop`` or the last sale. ``started``: set when threads need stopping."""
    health = metrics.serve(settings.metrics_port)
    registry = Registry(settings.schema_registry_url)
    schemas: dict[Entity, Any] = {
        t.name.removesuffix(".raw"): json.loads(t.schema.read_text())  # type: ignore[misc]
        for t in topics.TOPICS
        if t.schema is not None and t.name.endswith(".raw")
    }
    encoders = {
        e: Encoder(schemas[e], wait_for(partial(registry.register, f"{topics.raw(e)}-value", schemas[e])))
        for e in Entity
    }
    reader = Reader(settings, registry, schemas)
    states = {e: wait_for(partial(reader.dimension, e)) for e in JOINED}
    tail = wait_for(reader.sales)

    seed = secrets.randbits(32) if settings.generator_seed is None else settings.generator_seed
    progress = Progress(0)
    timeline = _timeline(settings, states, tail, progress)
    _log.info(
        "started",
        seed=seed,
        time="simulated" if settings.simulated else "live",
        start=datetime.fromtimestamp(timeline.start_us / SECOND_US, UTC).isoformat(),
        sales_per_s=settings.generator_sales_per_s,
        changes_per_s=settings.generator_changes_per_s,
        next_sale=tail.next_id,
        **{f"next_{e}": states[e].next_id for e in JOINED},
    )
    pools = Pools(seed)
    outage = Outage(settings)
    supplies = {e: Supply() for e in JOINED}
    publishers = {e: Publisher(settings, e, stop, outage, supplies[e].delivered) for e in JOINED}
    publishers[Entity.SALES] = Publisher(settings, Entity.SALES, stop, outage)
    health.ready = True
    started.set()
    with ThreadPoolExecutor(max_workers=len(Entity), thread_name_prefix="generator") as threads:
        changing = [
            threads.submit(
                change,
                DimensionStream(
                    KINDS[e],
                    random.Random(f"{seed}/{e}/{states[e].records}"),
                    pools,
                    settings.faults,
                    encoders[e],
                    states[e],
                ),
                supplies[e],
                timeline,
                publishers[e],
                stop,
            )
            for e in JOINED
        ]
        sales = SalesStream(
            np.random.default_rng([seed, tail.records]),
            settings.faults,
            int(settings.latency_max_s * SECOND_US),
            encoders[Entity.SALES],
            tail,
        )
        selling = threads.submit(
            sell, sales, supplies, timeline, publishers[Entity.SALES], stop, settings.generator_max_sales, progress
        )
        _watch(changing, selling, publishers, stop, simulated=settings.simulated)
    health.ready = False


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
                faults = sum((p.planted for p in publishers.values()), start=type(publishers[Entity.SALES].planted)())
                planted = {str(f): n for f, n in sorted(faults.items())}
                _log.info("published", **{str(e): p.sent for e, p in publishers.items()}, faults=planted)
    finally:
        stop.set()


def _timeline(settings: GeneratorSettings, states: dict[Entity, State], tail: Tail, progress: Progress) -> Timeline:
    sales, changes = settings.generator_sales_per_s, settings.generator_changes_per_s
    if settings.generator_start_time is None:
        return timelines.live(sales, changes)
    # Simulated time, too, never goes back on a topic.
    newest = max(tail.newest_us, *(s.newest_us for s in states.values()))
    start = (settings.generator_start_time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return timelines.simulated(
        max(start, newest + SECOND_US) if newest else start,
        sales or SALES_PER_S,
        changes or CHANGES_PER_S,
        paced=sales > 0 and changes > 0,
        max_sales=settings.generator_max_sales,
        progress=progress,
    )


def _check_start(settings: GeneratorSettings) -> None:
    start = settings.generator_start_time
    if start is not None and start > datetime.now(UTC):
        raise SettingsError(
            f"GENERATOR_START_TIME={start.isoformat()} lies in the future; allowed: a time up to now, "
            "since Kafka takes no record with a later timestamp."
        )


def _stop_on_signals(started: threading.Event, stop: threading.Event) -> None:
    def handle(number: int, _frame: object) -> None:
        stop.set()
        if not started.is_set():
            # Nothing was published yet, and the wait for a server that is away has no other end.
            raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


if __name__ == "__main__":
    sys.exit(main())
