"""A raw topic full of realistic sales."""

import random
import time

from confluent_kafka import Producer

from benchmarks.cleaner.world import SALES, World
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.kafka import clients
from retail_stream.topics import topic

_POOL = 50_000


def pool(world: World) -> list[tuple[bytes, bytes]]:
    """(key, value) of 50,000 different sales: 1 % with a negative discount, 0.1 % cut off."""
    rng = random.Random(1)
    writer = RecordSchema(topic(SALES).schema())
    number = Registry(world.connections.schema_registry_url).register(topic(SALES).subject, writer.schema)
    now = int(time.time() * 1e6)
    records = []
    for i in range(_POOL):
        store, quantity, price = rng.randint(1, 200), rng.randint(1, 5), round(rng.uniform(5, 300), 2)
        sale = {
            "transaction_id": i * 1000,
            "store_id": store,
            "event_time": now - rng.randrange(30_000_000),
            "customer_id": rng.randint(1, 100_000),
            "product_id": rng.randint(1, 5_000),
            "quantity": quantity,
            "unit_price": price,
            "total_amount": quantity * price,
            "payment_method": rng.choice(["Credit Card", "Cash", "Mobile"]),
            "discount_applied": -1.0 if rng.random() < 0.01 else round(rng.uniform(0, 10), 2),
            "tax_amount": round(quantity * price * 0.1, 2),
        }
        value = frame(number, encode(writer.plain, sale))
        records.append((str(store).encode(), value[:-3] if rng.random() < 0.001 else value))
    return records


def fill(world: World, records: int) -> None:
    """Put that many sales on the raw topic: the pool, over and over."""
    sales = pool(world)
    producer: Producer = clients.producer(world.connections, **{"linger.ms": 20})
    for i in range(records):
        key, value = sales[i % _POOL]
        while True:
            try:
                producer.produce(SALES, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        if i % 1000 == 0:
            producer.poll(0)
    producer.flush()
