"""A clean topic full of sales whose event times go on faster than any clock, and what its windows hold."""

import random
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Producer

from benchmarks.cleaner.world import CLEAN, PARTITIONS, World
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian
from retail_stream.topics import topic
from services.scd_merger.dimensions import clean_schema

SIZE_S, DELAY_S, LATENESS_S = 60, 10, 60
STORES, PRODUCTS = 200, 1_000
START_S = 1_750_000_020
_PER_S = 2_500
#: of the sales, that many lag, by up to a minute; so nothing is too late for anybody
_LATE = 0.02


#: ('store' or 'product', window start in seconds, id) → sales in it
Found = dict[tuple[str, int, int], int]


@dataclass(frozen=True)
class Truth:
    """What windows hold that are over for each partition at the topic's end."""

    counts: Found

    def differs(self, found: Found) -> int:
        """How many windows are not as they should be."""
        return sum(found.get(window, 0) != count for window, count in self.counts.items())


def fill(w: World, records: int, stores: int = STORES, products: int = PRODUCTS) -> Truth:
    """Publish sales as the cleaner would: 2,500 to a second of event time, placed by their store."""
    rng = random.Random(1)
    writer = RecordSchema(clean_schema(Entity.SALES))
    number = Registry(w.connections.schema_registry_url).register(topic(CLEAN).subject, writer.schema)
    producer: Producer = clients.producer(w.connections, **{"linger.ms": 20})
    times = np.empty(records, np.int64)
    places = np.empty(records, np.int64)
    things = np.empty(records, np.int64)
    offsets = [0] * PARTITIONS
    for i in range(records):
        now = START_S * 1_000_000 + i * (1_000_000 // _PER_S)
        store, quantity, price = rng.randrange(stores), rng.randint(1, 5), rng.randrange(500, 30_000) / 100
        places[i], things[i] = store, rng.randrange(products)
        times[i] = now - (rng.randrange(60_000_000) if rng.random() < _LATE else rng.randrange(1_000_000))
        sale = {
            "transaction_id": i,
            "store_id": store,
            "event_time": int(times[i]),
            "customer_id": rng.randrange(100_000),
            "product_id": int(things[i]),
            "quantity": quantity,
            "unit_price": price,
            "total_amount": quantity * price,
            "payment_method": "Credit Card",
            "discount_applied": 1.5,
            "tax_amount": 2.5,
        }
        partition = store % PARTITIONS
        value, header = frame(number, encode(writer.plain, sale)), as_big_endian(offsets[partition])
        offsets[partition] += 1
        while True:
            try:
                producer.produce(
                    CLEAN,
                    value,
                    str(store).encode(),
                    partition,
                    timestamp=now // 1000,
                    headers=[(SOURCE_OFFSET, header)],
                )
                break
            except BufferError:
                producer.poll(0.1)
        if i % 1000 == 0:
            producer.poll(0)
    producer.flush()
    return _truth(times, places, things)


def _truth(times: np.ndarray, places: np.ndarray, things: np.ndarray) -> Truth:
    starts = times // 1_000_000 // SIZE_S * SIZE_S
    newest = min(times[places % PARTITIONS == p].max() for p in range(PARTITIONS)) / 1e6
    over = starts + SIZE_S + DELAY_S + LATENESS_S < newest
    found: Found = {}
    for kind, ids in (("store", places), ("product", things)):
        windows, counts = np.unique(np.stack([starts[over], ids[over]]), axis=1, return_counts=True)
        found.update({(kind, int(s), int(i)): int(n) for s, i, n in zip(*windows, counts, strict=True)})
    return Truth(found)
