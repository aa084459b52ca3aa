"""The generator's records: the same from run to run, whole without faults, and with faults as often as asked."""

import random
from collections import Counter

import pytest

from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from services.generator.faults import Fault
from services.generator.publishing import evolution
from services.generator.records import Evolution
from services.generator.retailer.pools import Pools
from services.generator.timing.schedule import Slots
from tests.harness.generator_streams import (
    DEFAULTS,
    NO_FAULTS,
    POOLS,
    SCHEMAS,
    SECOND,
    START,
    changes,
    dimension_stream,
    market,
    rows,
    sales_stream,
    sell,
)


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_a_seed_makes_the_same_changes_again_and_another_seed_others(entity: Entity) -> None:
    assert changes(entity, 300, DEFAULTS) == changes(entity, 300, DEFAULTS)
    assert changes(entity, 300, DEFAULTS) != changes(entity, 300, DEFAULTS, seed=2)


def test_a_seed_makes_the_same_sales_again_and_another_seed_others() -> None:
    assert sell(500, DEFAULTS) == sell(500, DEFAULTS)
    assert sell(500, DEFAULTS) != sell(500, DEFAULTS, seed=2)


def test_pools_are_the_same_for_the_same_seed_in_every_process() -> None:
    assert POOLS.any_name(random.Random(3)) == Pools(7, size=40).any_name(random.Random(3))


def test_without_faults_every_record_is_whole_and_new_ids_follow_each_other_from_one() -> None:
    for entity in DIMENSIONS:
        records = changes(entity, 200, NO_FAULTS)
        key = FIELDS[entity].key
        assert len(rows(entity, records)) == len(records)
        seen = list(dict.fromkeys(row[key] for row in rows(entity, records)))
        assert seen == list(range(1, len(seen) + 1))
        assert [r.key for r in records] == [str(row[key]).encode() for row in rows(entity, records)]
    assert [r.id for r in sell(200, NO_FAULTS)] == list(range(1, 201))


def test_the_brief_s_dirt_comes_as_often_as_it_says() -> None:
    sales = Counter(f for r in sell(20_000, DEFAULTS) for f in r.faults)
    assert sales[Fault.RETURN] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert sales[Fault.NEGATIVE_DISCOUNT] / 20_000 == pytest.approx(0.01, abs=0.004)
    assert sales[Fault.LATE_EVENT] / 20_000 == pytest.approx(0.10, abs=0.01)
    emails = Counter(f for r in changes(Entity.CUSTOMERS, 5000, DEFAULTS) for f in r.faults)
    assert emails[Fault.NULL_EMAIL] / 5500 == pytest.approx(0.03, abs=0.01)
    assert emails[Fault.OUT_OF_ORDER_UPDATE] / 5000 == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("entity", Entity)
def test_a_newer_schema_comes_in_mid_stream_and_readers_of_the_old_one_see_the_same(entity: Entity) -> None:
    at_us = START + 61 * SECOND
    if entity is Entity.SALES:
        streams = [sales_stream(evolution=e) for e in (None, Evolution(at_us, evolution.column_encoder(2)))]
        slots = Slots.of([START + 60 * SECOND + i * SECOND // 50 for i in range(100)])
        old, new = (list(s.block(slots, market()).records()) for s in streams)
    else:
        encode = evolution.row_encoder(entity, 2)
        dimensions = [dimension_stream(entity, evolution=e) for e in (None, Evolution(at_us, encode))]
        moments = [START + 60 * SECOND + i * SECOND // 50 for i in range(100)]
        old, new = ([s.change(at).record for at in moments] for s in dimensions)
    reader = RecordSchema(SCHEMAS[entity])
    writers = {1: reader, 2: RecordSchema(evolution.schema(entity))}
    seen = [[reader.read([r.value], writers).table.row(0) for r in rs] for rs in (old, new)]
    assert seen[0] == seen[1]
    assert [r.value[4] for r in new if r.value] == [1] * 50 + [2] * 50
    added = next(iter(writers[2].names - reader.names))
    assert None not in {writers[2].record(r.value[5:])[added] for r in new[50:]}  # type: ignore[index]
