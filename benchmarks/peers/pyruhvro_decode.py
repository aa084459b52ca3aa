"""pyruhvro (Rust) as a child of `python -m benchmarks decode`: decodes a batch for each line that it is given.

On the command line: the schema as JSON, and a file of records, each behind its length as four big-endian bytes. After
each line on standard input it prints the CPU seconds of one batch on one thread.
"""

import sys
import time
from pathlib import Path

from pyruhvro import deserialize_array


def records(path: Path) -> list[bytes]:
    """The records of the file, without their Confluent headers, which pyruhvro does not take."""
    data, at = path.read_bytes(), 0
    bodies = []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        bodies.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return bodies


def main(schema: str, path: str) -> int:
    """Decode until the input ends."""
    values = records(Path(path))
    for _ in sys.stdin:
        began = time.process_time()
        deserialize_array(values, schema)
        print(time.process_time() - began, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
