"""`make bench`: all benchmarks, one after the other; `python -m benchmarks decode` runs one."""

import sys

from benchmarks import decode, load

BENCHMARKS = {"decode": decode.main, "load": load.main}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; the worst of their exit codes."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}; allowed: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    return max(BENCHMARKS[name]() for name in names or BENCHMARKS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
