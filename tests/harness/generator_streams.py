"""The generator's streams as tests use them: rows, and records of each entity without Kafka."""

import json
import random
from collections.abc import Mapping

import numpy as np

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import DIMENSIONS, Entity
from services.generator.publishing.columns import ColumnEncoder
from services.generator.publishing.faults import PROFILES, Fault, Profile
from services.generator.publishing.records import Encoder, Record
from services.generator.retailer.catalogue import KINDS
from services.generator.retailer.dimension import DimensionStream, State
from services.generator.retailer.market import Market
from services.generator.retailer.pools import Pools
from services.generator.retailer.sales import VOCABULARIES, SalesStream, Tail
from services.generator.timing.schedule import Slots

START = 1_772_352_000_000_000
SECOND = 1_000_000
SCHEMAS = {e: json.loads((topics.SCHEMAS / "raw" / f"{e}.avsc").read_text()) for e in Entity}
POOLS = Pools(7, size=40)
COLUMNS = ColumnEncoder(SCHEMAS[Entity.SALES], 1, VOCABULARIES)
NO_FAULTS = dict.fromkeys(Fault, 0.0)
DEFAULTS = PROFILES[Profile.BRIEF]
HOSTILE = PROFILES[Profile.HOSTILE]


def encoder(entity: Entity) -> Encoder:
    return Encoder(SCHEMAS[entity], 1)


def rows(entity: Entity, records: list[Record]) -> list[dict]:
    reader = RecordSchema(SCHEMAS[entity])
    return [row for r in records if r.value is not None and (row := reader.record(r.value[5:])) is not None]


def changes(entity: Entity, count: int, faults: Mapping[Fault, float], seed: int = 1) -> list[Record]:
    stream = DimensionStream(KINDS[entity], random.Random(seed), POOLS, faults, encoder(entity), State())
    initial = [m.record for m in stream.initial(START)]
    return initial + [stream.change(START + i * SECOND // 5).record for i in range(count)]


def market() -> Market:
    market = Market()
    for e in DIMENSIONS:
        stream = DimensionStream(KINDS[e], random.Random(f"m/{e}"), POOLS, NO_FAULTS, encoder(e), State())
        market.shelves[e].apply(c for m in stream.initial(START) for c in m.changes)
    return market


def sell(count: int, faults: Mapping[Fault, float], seed: int = 1, latency_s: int = 30) -> list[Record]:
    stream = SalesStream(np.random.default_rng(seed), faults, latency_s * SECOND, COLUMNS, Tail())
    offer = market()
    slots = [START + 60 * SECOND + i * SECOND // 50 for i in range(count)]
    return [r for i in range(0, count, 50) for r in stream.block(Slots.of(slots[i : i + 50]), offer).records()]
