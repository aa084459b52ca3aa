"""The practical limit in Python: sales from a pool of rows, encoded one by one with fastavro, sent by confluent-kafka.

No faults, no ledger, no transactions, no ids that wait for their dimensions, no new random numbers.
"""

import io
import random
import sys
import time

import fastavro
from confluent_kafka import Producer

from retail_stream import topics
from retail_stream.avro.decode import frame
from retail_stream.avro.schema import plain_schema

_POOL = 10_000
_HEAD = frame(1, b"")


def main(servers: str, topic: str, records: int) -> None:
    """Send ``records`` and wait until they are on the topic."""
    schema = fastavro.parse_schema(plain_schema(topics.topic("sales.raw").schema()))
    rng = random.Random(1)
    pool = [_row(rng) for _ in range(_POOL)]
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 10,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
            "delivery.report.only.error": True,
        }
    )
    write, produce = fastavro.schemaless_writer, producer.produce
    for number in range(1, records + 1):
        key, row = pool[number % _POOL]
        row["transaction_id"] = number
        out = io.BytesIO()
        out.write(_HEAD)
        write(out, schema, row)
        while True:
            try:
                produce(topic, out.getvalue(), key, timestamp=time.time_ns() // 1_000_000)
                break
            except BufferError:
                producer.poll(0.01)
    producer.flush()


def _row(rng: random.Random) -> tuple[bytes, dict]:
    store, price, quantity = rng.randrange(1, 21), rng.randrange(900, 40_000), rng.randrange(1, 5)
    return b"%d" % store, {
        "store_id": store,
        "event_time": time.time_ns() // 1000,
        "customer_id": rng.randrange(1, 500),
        "product_id": rng.randrange(1, 200),
        "quantity": quantity,
        "unit_price": price / 100,
        "total_amount": price * quantity / 100,
        "payment_method": rng.choice(("credit_card", "debit_card", "cash")),
        "discount_applied": 0.0,
        "tax_amount": price * quantity // 12 / 100,
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
