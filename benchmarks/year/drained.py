"""A bounded stream through the whole pipeline, to its end."""

import time

from benchmarks.cleaner.world import World
from commands.demo.pipeline import Pipeline, Service
from commands.status.status import look
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres

_PATIENCE_S = 3_600.0


def run(w: World, **env: str) -> float:
    """Run the four services until the generator has ended and nothing is in flight; returns the seconds.

    ``env``: for the services; GENERATOR_MAX_SALES among it.
    """
    engine = postgres.engine(w.connections.database_url)
    pipeline = Pipeline(w.processes, {**w.env, **env}, w.folder / "logs")
    began = time.monotonic()
    for service in reversed(Service):
        pipeline.start(service)
    while pipeline.dead() != {Service.GENERATOR: 0} or not wait_for(lambda: look(engine, w.connections), 60).drained:
        dead = pipeline.dead()
        if (dead and dead != {Service.GENERATOR: 0}) or time.monotonic() - began > _PATIENCE_S:
            raise SystemExit(f"the stream did not end: {dead}")
        time.sleep(0.5)
    took = time.monotonic() - began
    for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR):
        pipeline.stop(service)
    engine.dispose()
    return took
