"""From the publishing of a sale to the moment its window in `sales_by_window` has it, through the whole pipeline.

BENCH_SECONDS (60) says for how long, at 1,000 and at 5,000 sales/s.
"""

import os
import time

import numpy as np
from sqlalchemy import Engine, text

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import PARTITIONS, SALES, World, world
from commands.demo.pipeline import Pipeline, Service
from retail_stream.kafka.reading import read_to_end
from retail_stream.warehouse import postgres

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
    for partition, (numbers, published) in _published(w).items():
        times, offsets = (np.array(column) for column in zip(*seen[partition], strict=True))
        # The first look at which a sale's offset had been passed.
        look = np.searchsorted(offsets, numbers, side="left")
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


def _published(w: World) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By partition: offsets of the raw sales, and when each was due, seconds; its transaction came a moment later."""
    found: dict[int, list[tuple[int, int]]] = {p: [] for p in range(PARTITIONS)}
    for m in read_to_end(w.connections, SALES):
        found[int(m.partition() or 0)].append((int(m.offset() or 0), m.timestamp()[1]))
    columns = {p: np.array(rows).reshape(-1, 2) for p, rows in found.items()}
    return {p: (rows[:, 0], rows[:, 1] / 1e3) for p, rows in columns.items()}
