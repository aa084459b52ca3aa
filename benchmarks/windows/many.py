"""The aggregator with some 10,000 windows that are not final, beside one with 10 or 20.

BENCH_RECORDS (3,000,000) says how many sales.
"""

import os

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import World, world
from benchmarks.windows.contestants import ENTRANTS, OURS
from benchmarks.windows.rate import Run, measured
from benchmarks.windows.stream import LATENESS_S, fill

_HOURS_S = 36_000


def main() -> int:
    """Print both rates and their ratio."""
    records = int(os.environ.get("BENCH_RECORDS", "3000000"))
    print("\n10 stores and products, then 500, of which no window becomes final")
    with world() as w:
        few = _run(w, records, 5, 5, LATENESS_S)
    with world() as w:
        many = _run(w, records, 100, 400, _HOURS_S)
    say_goal("rate with 10,000 open windows / with 10 a minute", many.rate / few.rate, ">=", 0.8)
    return 0


def _run(w: World, records: int, stores: int, products: int, lateness_s: int) -> Run:
    truth = fill(w, records, stores, products)
    more = {"FACT_SALES": "off", "ALLOWED_LATENESS_S": str(lateness_s)}
    return measured(w, OURS, ENTRANTS[OURS].contestant(w), records, truth, **more)
