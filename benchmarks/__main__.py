"""`make bench`: benchmarks of the pipeline, one after the other; `python -m benchmarks decode` runs one.

`make bench-cleaner`, `make bench-scd`, `make bench-windows`, `make bench-generator` and `make bench-year` run those
that take longer, `make bench-containers` the one that needs Docker.
"""

import sys

from benchmarks import containers, dashboard, decode, load, record_batches, rules
from benchmarks.cleaner import backlogs, kinds, latency, memory, rate
from benchmarks.generator import pace, same
from benchmarks.generator import rate as generator
from benchmarks.generator import year as generator_year
from benchmarks.questions import times
from benchmarks.scd import constraints, history
from benchmarks.scd import rate as scd
from benchmarks.windows import declared as windows_declared
from benchmarks.windows import facts, many, rises
from benchmarks.windows import latency as windows_latency
from benchmarks.windows import rate as windows
from benchmarks.year import audit, growth, year

USUAL = {
    "decode": decode.main,
    "rules": rules.main,
    "record-batches": record_batches.main,
    "load": load.main,
    "dashboard": dashboard.main,
}
CLEANER = {
    "cleaner": rate.main,
    "cleaner-kinds": kinds.main,
    "cleaner-latency": latency.main,
    "cleaner-memory": memory.main,
    "cleaner-backlogs": backlogs.main,
}
SCD = {"scd": scd.main, "scd-history": history.main, "scd-constraints": constraints.main}
WINDOWS = {
    "windows": windows.main,
    "windows-facts": facts.main,
    "windows-open": many.main,
    "windows-latency": windows_latency.main,
    "windows-rises": rises.main,
    "windows-declared": windows_declared.main,
}
CONTAINERS = {"containers": containers.main}
GENERATOR = {
    "generator": generator.main,
    "generator-pace": pace.main,
    "generator-same": same.main,
    "generator-year": generator_year.main,
}
DASHBOARD = {"dashboard-memory": dashboard.memory}
YEAR = {"year": year.main, "verify": audit.main, "growth": growth.main}
QUESTIONS = {"questions": times.main}
BENCHMARKS = {**USUAL, **CLEANER, **SCD, **WINDOWS, **GENERATOR, **YEAR, **DASHBOARD, **QUESTIONS, **CONTAINERS}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or the usual ones; the worst of their exit codes."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}; allowed: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    return max(BENCHMARKS[name]() for name in names or USUAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
