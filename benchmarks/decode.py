"""Decoding batches of sales into columns: the table-driven decoder, fastavro and pyruhvro on the same bytes.

All take turns, so that what else the machine does meets all of them. pyruhvro runs in the peers' environment, where
`make bench-cleaner` has installed it, in a process of its own.
"""

import io
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastavro

from benchmarks.cleaner.contestants import PEERS_PYTHON, ROOT
from retail_stream.avro import decoder
from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, encode, frame
from retail_stream.avro.encoder import Target
from retail_stream.avro.reader import Reader
from retail_stream.topics import topic

#: as many as the cleaner takes at once
RECORDS = 40_000
ROUNDS = 15
SCHEMA_ID, NEWER_ID = 1, 2
#: what each record of the newer writer has beyond the others: a text, and an array of none
NEW_FIELDS = [
    {"name": "channel", "type": ["null", "string"], "default": None},
    {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
]
NEW_BYTES = b"\x02\x06app\x00"


def payloads(writer: RecordSchema) -> list[bytes]:
    """Framed sales that differ in every number."""
    sale = {"payment_method": "card", "quantity": 2, "discount_applied": 0.0}
    return [
        frame(
            SCHEMA_ID,
            encode(
                writer.plain,
                {
                    **sale,
                    "transaction_id": i,
                    "store_id": i % 50,
                    "event_time": 1_790_000_000_000_000 + i * 200,
                    "customer_id": i % 20_000,
                    "product_id": i % 3_000,
                    "unit_price": 0.99 + i % 200,
                    "total_amount": 2 * (0.99 + i % 200),
                    "tax_amount": 0.2 * (i % 200),
                },
            ),
        )
        for i in range(RECORDS)
    ]


def one_by_one(values: Sequence[bytes], schema: object) -> None:
    """What a per-record pipeline does at least."""
    for value in values:
        fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)  # type: ignore[arg-type]


def seconds(run: Callable[[], object]) -> float:
    """CPU time of this process, which another program on the machine disturbs least."""
    began = time.process_time()
    run()
    return time.process_time() - began


@contextmanager
def pyruhvro(values: Sequence[bytes], schema: object) -> Iterator[Callable[[], float] | None]:
    """A function that decodes the batch once and returns CPU seconds, or None where pyruhvro is not installed."""
    if (
        not PEERS_PYTHON.exists()
        or subprocess.run([PEERS_PYTHON, "-c", "import pyruhvro"], capture_output=True).returncode
    ):
        yield None
        return
    with tempfile.NamedTemporaryFile() as file:
        bodies = (value[HEADER_BYTES:] for value in values)
        Path(file.name).write_bytes(b"".join(len(b).to_bytes(4, "big") + b for b in bodies))
        command = [str(PEERS_PYTHON), "-m", "benchmarks.peers.pyruhvro_decode", json.dumps(schema), file.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            ask, answer = child.stdin, child.stdout

            def turn() -> float:
                print(file=ask, flush=True)
                return float(answer.readline())

            yield turn
            ask.close()


def contestants(schema: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """Name → one round, which returns CPU seconds."""
    writer = RecordSchema(schema)
    parsed = fastavro.parse_schema(dict(writer.plain))
    values = payloads(writer)
    reader = Reader(schema)
    schemas, target = decoder.Schemas(reader), Target(schema, reader)
    newer = {**schema, "fields": [*schema["fields"], *NEW_FIELDS]}
    schemas.add(SCHEMA_ID, schema)
    schemas.add(NEWER_ID, newer)
    mixed = [frame(NEWER_ID, v[HEADER_BYTES:] + NEW_BYTES) if i % 2 else v for i, v in enumerate(values)]
    joined, both = decoder.Values.of(values), decoder.Values.of(mixed)
    decoded = decoder.decode(both, schemas)
    return {
        "fastavro, record by record": lambda: seconds(lambda: one_by_one(values, parsed)),
        "the table": lambda: seconds(lambda: decoder.decode(joined, schemas)),
        "the table, values as a list": lambda: seconds(lambda: decoder.decode(values, schemas)),
        "the table, half of a newer writer": lambda: seconds(lambda: decoder.decode(both, schemas)),
        "the table, writing all of them anew": lambda: seconds(
            lambda: [target.encode(decoded, part, NEWER_ID) for part in decoded.parts]
        ),
    }


def main() -> int:
    """Print microseconds a record (of the best round), and what each costs beside the table-driven decoder."""
    schema = topic("sales.raw").schema()
    rounds = contestants(schema)
    plain = RecordSchema(schema)
    with pyruhvro(payloads(plain), dict(plain.plain)) as turn:
        if turn is not None:
            rounds["pyruhvro"] = turn
        taken: dict[str, list[float]] = {name: [] for name in rounds}
        for _ in range(ROUNDS):
            for name, run in rounds.items():
                taken[name].append(run())
    best = {name: min(times) for name, times in taken.items()}
    print(f"decode: {RECORDS:,} sales into columns, {ROUNDS} rounds in turn; CPU time of the best round")
    for name, spent in best.items():
        ratio = spent / best["the table"]
        print(f"decode: {name:37} {spent / RECORDS * 1e6:6.3f} µs a record {ratio:6.2f} of the table's")
    if "pyruhvro" not in taken:
        print("decode: pyruhvro is not installed; `make bench-cleaner` does it")
    return 0
