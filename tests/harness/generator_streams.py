"""The generator's streams for tests: records and rows of each entity, without Kafka."""

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import DIMENSIONS, Entity
from services.generator.faults import PROFILES, Fault, Probabilities, Profile
from services.generator.publishing.encoding import ColumnEncoder, RowEncoder
from services.generator.records import EncodeColumns, EncodeRow, Evolution, ProducerRecord
from services.generator.retailer.catalogue import SPECS
from services.generator.retailer.changes import DimensionState
from services.generator.retailer.dimension import DimensionStream
from services.generator.retailer.market import Market
from services.generator.retailer.pools import Pools
from services.generator.retailer.sales import VOCABULARIES, SalesState, SalesStream
from services.generator.retailer.stock import Stock
from services.generator.timing.latency import Latency
from services.generator.timing.schedule import Slots
from tests.harness import rows as harness_rows

START = 1_772_352_000_000_000
SECOND = 1_000_000
SCHEMAS = {e: json.loads((topics.SCHEMAS / "raw" / f"{e}.avsc").read_text()) for e in Entity}
READERS = {e: RecordSchema(schema) for e, schema in SCHEMAS.items()}
POOLS = Pools(7, size=40)
COLUMNS = ColumnEncoder(SCHEMAS[Entity.SALES], 1, VOCABULARIES)
NO_FAULTS = dict.fromkeys(Fault, 0.0)
DEFAULTS = PROFILES[Profile.BRIEF]
HOSTILE = PROFILES[Profile.HOSTILE]


def encoder(entity: Entity) -> RowEncoder:
    return RowEncoder(SCHEMAS[entity], 1)


def every_row(entity: Entity, records: Iterable[ProducerRecord]) -> list[dict | None]:
    """The row of each record; None for a tombstone and for bytes that are not Avro. Any schema id is accepted."""
    return harness_rows.every_row(READERS[entity], (r.value for r in records))


def rows(entity: Entity, records: Iterable[ProducerRecord]) -> list[dict]:
    """The rows of the records that have one."""
    return [row for row in every_row(entity, records) if row is not None]


def dimension_stream(
    entity: Entity,
    faults: Probabilities = NO_FAULTS,
    seed: int | str = 1,
    state: DimensionState | None = None,
    evolution: Evolution[EncodeRow] | None = None,
    **spec: Any,
) -> DimensionStream:
    """``spec``: other fields of the dimension's spec."""
    rng, kept = random.Random(seed), state or DimensionState()
    catalogue = replace(SPECS[entity], **spec)
    stock = Stock() if entity is Entity.PRODUCTS else None
    return DimensionStream(catalogue, rng, POOLS, faults, encoder(entity), kept, evolution, stock)


def sales_stream(
    faults: Probabilities = NO_FAULTS,
    seed: int = 1,
    latency: Latency | None = None,
    state: SalesState | None = None,
    partitions: int = 1,
    evolution: Evolution[EncodeColumns] | None = None,
) -> SalesStream:
    """``latency``: none at all by default."""
    rng, latency = np.random.default_rng(seed), latency or Latency(0)
    return SalesStream(rng, faults, latency, COLUMNS, state or SalesState(), partitions, evolution)


def changes(entity: Entity, count: int, faults: Probabilities, seed: int = 1) -> list[ProducerRecord]:
    stream = dimension_stream(entity, faults, seed)
    initial = [c.record for c in stream.initial(START)]
    return initial + [stream.change(START + i * SECOND // 5).record for i in range(count)]


def market() -> Market:
    market = Market()
    for e in DIMENSIONS:
        initial = dimension_stream(e, seed=f"m/{e}").initial(START)
        market.shelves[e].apply(a for c in initial for a in c.availabilities)
    return market


def sell(count: int, faults: Probabilities, seed: int = 1, latency_s: int = 30) -> list[ProducerRecord]:
    stream, offer = sales_stream(faults, seed, Latency(latency_s * SECOND)), market()
    slots = [START + 60 * SECOND + i * SECOND // 50 for i in range(count)]
    return [r for i in range(0, count, 50) for r in stream.block(Slots.of(slots[i : i + 50]), offer).records()]
