"""The aggregator with `fact_sales`, beside a bare COPY of the same rows into an equal table.

BENCH_RECORDS (3,000,000) says how many.
"""

import os
import time

from sqlalchemy import Engine, text

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import world
from benchmarks.windows.contestants import ENTRANTS, OURS
from benchmarks.windows.rate import measured
from benchmarks.windows.stream import fill
from retail_stream.warehouse import postgres

#: Rows of a transaction: about as many as one of the aggregator's.
_ROWS = 100_000
_GOAL_PER_S = 80_000


def main() -> int:
    """Print both rates, the second with a commit for as many rows as the aggregator takes at once."""
    records = int(os.environ.get("BENCH_RECORDS", "3000000"))
    with world() as w:
        truth = fill(w, records)
        print("\nwith fact_sales")
        ours = measured(w, OURS, ENTRANTS[OURS].contestant(w), records, truth, FACT_SALES="on")
        engine = postgres.engine(w.connections.database_url)
        bare = _copied(engine)
        engine.dispose()
    print(f"bare COPY into fact_sales' like {bare:>12,.0f} rows/s")
    say_goal("rate with fact_sales / 80,000 a second", ours.rate / _GOAL_PER_S, ">=", 1)
    say_goal("rate with fact_sales / bare COPY", ours.rate / bare, ">=", 0.6)
    return 0


def _copied(engine: Engine) -> float:
    """Rows/s of copying what `fact_sales` has into an equal table."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bare (LIKE fact_sales INCLUDING ALL) PARTITION BY RANGE (event_time)"))
        connection.execute(text("CREATE TABLE bare_days PARTITION OF bare DEFAULT"))
        with postgres.cursor(connection).copy("COPY (SELECT * FROM fact_sales) TO STDOUT") as out:
            lines = b"".join(bytes(part) for part in out).splitlines(keepends=True)
    parts = [b"".join(lines[i : i + _ROWS]) for i in range(0, len(lines), _ROWS)]
    began = time.monotonic()
    for part in parts:
        with engine.begin() as connection, postgres.cursor(connection).copy("COPY bare FROM STDIN") as into:
            into.write(part)
    return len(lines) / (time.monotonic() - began)
