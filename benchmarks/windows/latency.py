"""From the publishing of a sale to the moment its window in `sales_by_window` has it, through the whole pipeline.

BENCH_SECONDS (60) says for how long, at 1,000 and at 5,000 sales/s.
"""

import os
import time

import numpy as np
from confluent_kafka import TopicPartition
from sqlalchemy import Engine, text

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import PARTITIONS, SALES, World, world
from retail_stream import kafka, postgres
from retail_stream.pipeline import Pipeline, Service

_RATES = (1_000, 5_000)
_WARM_UP_S = 15
_LOOK_EVERY_S = 0.005
_GOAL_S = 1.0
# The position is written in the transaction that writes the windows: what lies before it is visible.
_VISIBLE = text("""
    SELECT partition, source_offset FROM consumer_positions
    WHERE consumer_group = 'aggregator' AND topic = 'sales.clean'
""")


def main() -> int:
    """Print quantiles of (visible − published) for each rate."""
    seconds = int(os.environ.get("BENCH_SECONDS", "60"))
    for rate in _RATES:
        with world() as w:
            took = _delays(w, rate, seconds)
        p50, p99, most = np.quantile(took, [0.5, 0.99, 1])
        figures = f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, longest {most * 1e3:.0f} ms"
        print(f"publish to visible: {rate:,} sales/s for {seconds} s, {len(took):,} sales: {figures}", flush=True)
        say_goal(f"publish to visible: p99 at {rate:,} sales/s / 1 s", p99 / _GOAL_S, "<=", 1)
    return 0


def _delays(w: World, rate: int, seconds: int) -> np.ndarray:
    """Seconds from each sale's publishing to its being visible; of those published after the warm-up."""
    logs = w.folder / "logs"
    logs.mkdir()
    pipeline = Pipeline(w.processes, {**w.env, "GENERATOR_SALES_PER_S": str(rate)}, logs)
    engine = postgres.engine(w.connections.database_url)
    for service in reversed(Service):
        pipeline.start(service)
    seen = _watch(engine, seconds)
    engine.dispose()
    pipeline.stop(Service.GENERATOR)
    began = seen[0][0][0] + _WARM_UP_S
    delays = []
    for partition, published in _published(w).items():
        times, offsets = (np.array(column) for column in zip(*seen[partition], strict=True))
        # The first look at which a sale's offset had been passed.
        look = np.searchsorted(offsets, np.arange(len(published)), side="left")
        counts = (published >= began) & (look < len(times))
        delays.append(times[look[counts]] - published[counts])
    return np.concatenate(delays)


def _watch(engine: Engine, seconds: int) -> dict[int, list[tuple[float, int]]]:
    """By partition: (time of the look, largest raw offset whose sale is in its windows), from the first sale on."""
    seen: dict[int, list[tuple[float, int]]] = {p: [] for p in range(PARTITIONS)}
    began: float | None = None
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while began is None or time.time() < began + _WARM_UP_S + seconds:
            found = connection.execute(_VISIBLE).all()
            now = time.time()
            if began is None and len(found) == PARTITIONS and all(offset >= 0 for _, offset in found):
                began = now
            if began is not None:
                for partition, offset in found:
                    seen[partition].append((now, offset))
            time.sleep(_LOOK_EVERY_S)
    return seen


def _published(w: World) -> dict[int, np.ndarray]:
    """By partition: when each raw sale was published, seconds, by offset."""
    ends = w.ends(SALES)
    consumer = kafka.consumer(w.connections, "bench.published")
    consumer.assign([TopicPartition(SALES, p, 0) for p in range(PARTITIONS)])
    found: dict[int, list[int]] = {p: [] for p in range(PARTITIONS)}
    while any(len(found[p]) < ends[SALES, p] for p in range(PARTITIONS)):
        for m in consumer.consume(10_000, 1.0):
            if m.error() is None:
                found[m.partition()].append(m.timestamp()[1])
    consumer.close()
    return {p: np.array(times) / 1e3 for p, times in found.items()}
