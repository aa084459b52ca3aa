"""Decoding a batch of sales into columns, against fastavro record by record, on the same bytes in turn."""

import io
import statistics
import time
from collections.abc import Callable, Sequence

import fastavro

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, decode, encode, frame
from retail_stream.topics import topic

RECORDS = 100_000
ROUNDS = 7
SCHEMA_ID = 1


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
        fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)  # type: ignore[arg-type, call-overload]


def seconds(run: Callable[[], object]) -> float:
    """CPU time of this process, which another program on the machine disturbs least."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> int:
    """Print the ratio of both, the median of rounds in which they take turns."""
    writer = RecordSchema(topic("sales.raw").schema())
    parsed = fastavro.parse_schema(dict(writer.plain))
    values = payloads(writer)
    ratios = []
    for _ in range(ROUNDS):
        slow = seconds(lambda: one_by_one(values, parsed))
        fast = seconds(lambda: decode(values, {SCHEMA_ID: writer}, writer))
        ratios.append(slow / fast)
    print(
        f"decode: {RECORDS:,} sales into columns cost 1/{statistics.median(ratios):.1f} of the CPU time of fastavro "
        f"record by record (median of {ROUNDS} rounds, {min(ratios):.1f} to {max(ratios):.1f})"
    )
    return 0
