"""Whether the same seed makes the same topics, and another seed others: a hash of all that the topics hold.

Of the four raw topics key, value, timestamp and headers, per partition in order; of the ledger, per entity in order,
all but the offsets: which offset a record gets also depends on how many transactions came before it.
BENCH_RECORDS (200,000) says how many sales.
"""

import hashlib
import os
import sys

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.world import World, world
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import Entity
from retail_stream.kafka.headers import header_list
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Result

_PATIENCE_S = 300.0


def main() -> int:
    """Print the hashes; 0 when they are as they should be."""
    records = os.environ.get("BENCH_RECORDS", "200000")
    found = []
    for seed in ("7", "7", "8"):
        with world() as w:
            _run(w, seed, records)
            digest, count = fingerprint(w)
        print(f"seed {seed}: {digest}  {count:,} records and entries", flush=True)
        found.append(digest)
    same, other = found[0] == found[1], found[0] != found[2]
    print(
        f"the same seed twice: {'the same' if same else 'NOT the same'}; another: {'other' if other else 'NOT other'}"
    )
    return 0 if same and other else 1


def _run(w: World, seed: str, records: str) -> None:
    env = {
        "GENERATOR_PROFILE": "hostile",
        "GENERATOR_SEED": seed,
        "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
        "GENERATOR_SALES_PER_S": "0",
        "GENERATOR_MAX_SALES": records,
        "METRICS_PORT": "0",
    }
    command = [sys.executable, "-m", "services.generator"]
    process = w.processes.spawn(
        "generator", command, env={**os.environ, **w.env, **env}, log=w.folder / "log", cwd=ROOT
    )
    if process.wait(_PATIENCE_S) != 0:
        raise SystemExit(f"the generator failed: {process.last_lines()}")


def fingerprint(w: World) -> tuple[str, int]:
    """SHA-256 of the topics' contents, and of how many records."""
    parts: dict[str, list[bytes]] = {}
    for entity in Entity:
        for m in read_to_end(w.connections, topics.raw(entity)):
            content = (m.key(), m.value(), m.timestamp()[1], header_list(m))
            parts.setdefault(f"{m.topic()}/{m.partition()}", []).append(repr(content).encode())
    reader = RecordSchema(topics.topic(Result.FAULTS).schema())
    for m in read_to_end(w.connections, Result.FAULTS):
        entry = reader.record((m.value() or b"")[5:]) or {}
        entry.pop("offset", None)
        parts.setdefault(f"ledger/{entry['entity']}", []).append(repr(entry).encode())
    digest = hashlib.sha256()
    for name, contents in sorted(parts.items()):
        digest.update(name.encode())
        for some in contents:
            digest.update(some)
    return digest.hexdigest(), sum(map(len, parts.values()))
