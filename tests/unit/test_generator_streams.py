"""The generator's records: the same from run to run, right in themselves, and dirty as often as asked."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.wire import Writer
from services.generator.catalogue import KINDS
from services.generator.dimension import DimensionStream, State
from services.generator.faults import STRANGE_SCHEMA_ID, Fault
from services.generator.market import Market
from services.generator.pools import Pools
from services.generator.records import Encoder, Record
from services.generator.sales import SalesStream, Tail
from services.generator.settings import GeneratorSettings

START = 1_772_352_000_000_000
SECOND = 1_000_000
SCHEMAS = {e: json.loads((topics.SCHEMAS / "raw" / f"{e}.avsc").read_text()) for e in Entity}
POOLS = Pools(7, size=40)
NO_FAULTS = dict.fromkeys(Fault, 0.0)
DEFAULTS = {f: GeneratorSettings.model_fields[f"generator_fault_{f}"].default for f in Fault}


def encoder(entity: Entity) -> Encoder:
    return Encoder(SCHEMAS[entity], 1)


def rows(entity: Entity, records: list[Record]) -> list[dict]:
    reader = Writer(SCHEMAS[entity])
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
    stream = SalesStream(np.random.default_rng(seed), faults, latency_s * SECOND, encoder(Entity.SALES), Tail())
    offer = market()
    slots = [START + 60 * SECOND + i * SECOND // 50 for i in range(count)]
    return [r for i in range(0, count, 50) for r in stream.block(slots[i : i + 50], offer)]


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


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_an_update_is_newer_and_changes_something_and_keeps_what_never_changes(entity: Entity) -> None:
    newest: dict[int, dict] = {}
    for row in rows(entity, changes(entity, 1500, {**NO_FAULTS, Fault.NULL_EMAIL: 0.5, Fault.NULL_MANAGER: 0.5})):
        before = newest.get(row[FIELDS[entity].key])
        if before is not None:
            assert row["last_update_time"] > before["last_update_time"]
            assert any(row[f] != before[f] for f in row if f != "last_update_time")
            for name in ("join_date", "open_date", "category", "brand", "gender"):
                assert row.get(name) == before.get(name)
        newest[row[FIELDS[entity].key]] = row


def test_money_adds_up_to_the_cent() -> None:
    for row in rows(Entity.SALES, sell(2000, DEFAULTS)):
        assert row["unit_price"] > 0
        assert row["total_amount"] == pytest.approx(row["quantity"] * row["unit_price"], abs=1e-9)
        for name in ("unit_price", "total_amount", "discount_applied", "tax_amount"):
            assert round(row[name], 2) == row[name]


def test_the_brief_s_dirt_comes_as_often_as_it_says() -> None:
    sales = Counter(f for r in sell(20_000, DEFAULTS) for f in r.faults)
    assert sales[Fault.RETURN] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert sales[Fault.NEGATIVE_DISCOUNT] / 20_000 == pytest.approx(0.01, abs=0.004)
    assert sales[Fault.LATE_EVENT] / 20_000 == pytest.approx(0.10, abs=0.01)
    emails = Counter(f for r in changes(Entity.CUSTOMERS, 5000, DEFAULTS) for f in r.faults)
    assert emails[Fault.NULL_EMAIL] / 5500 == pytest.approx(0.03, abs=0.01)
    assert emails[Fault.OUT_OF_ORDER_UPDATE] / 5000 == pytest.approx(0.04, abs=0.01)


def test_labels_say_what_is_in_the_record() -> None:
    for record in sell(5000, {**DEFAULTS, Fault.CORRUPT_BYTES: 0.02, Fault.UNKNOWN_SCHEMA_ID: 0.02}):
        assert record.value is not None
        row = Writer(SCHEMAS[Entity.SALES]).record(record.value[5:])
        if Fault.CORRUPT_BYTES in record.faults:
            assert row is None or record.value[0] != 0
            continue
        assert row is not None
        assert (int.from_bytes(record.value[1:5], "big") == STRANGE_SCHEMA_ID) == (
            Fault.UNKNOWN_SCHEMA_ID in record.faults
        )
        if Fault.DUPLICATE in record.faults:
            continue
        ahead = row["event_time"] - record.at_us // 1000 * 1000
        assert (row["quantity"] < 0) == (Fault.RETURN in record.faults)
        assert (row["discount_applied"] < 0) == (Fault.NEGATIVE_DISCOUNT in record.faults)
        assert (ahead > 300 * SECOND) == (Fault.FUTURE_EVENT_TIME in record.faults)
        if Fault.FUTURE_EVENT_TIME not in record.faults:
            assert -30 * SECOND - 1000 <= ahead < 1000
            assert (row["event_time"] < record.at_us - 2 * SECOND) == (Fault.LATE_EVENT in record.faults)


def test_no_latency_means_that_sales_happen_when_they_are_published() -> None:
    records = sell(300, {**NO_FAULTS, Fault.LATE_EVENT: 1.0}, latency_s=0)
    for record, row in zip(records, rows(Entity.SALES, records), strict=True):
        assert row["event_time"] == record.at_us
        assert record.faults == ()


def test_a_return_brings_back_no_more_than_the_customer_bought_before() -> None:
    bought: Counter[tuple] = Counter()
    returns = 0
    for row in rows(Entity.SALES, sell(5000, {**NO_FAULTS, Fault.RETURN: 0.4})):
        purchase = (row["customer_id"], row["product_id"], row["store_id"], row["unit_price"])
        bought[purchase] += row["quantity"]
        assert bought[purchase] >= 0
        returns += row["quantity"] < 0
    assert returns > 1000


def test_a_duplicate_is_an_earlier_sale_byte_for_byte() -> None:
    published: set[tuple] = set()
    copies = 0
    for record in sell(3000, {**NO_FAULTS, Fault.DUPLICATE: 0.1}):
        assert ((record.key, record.value) in published) == (Fault.DUPLICATE in record.faults)
        copies += Fault.DUPLICATE in record.faults
        published.add((record.key, record.value))
    assert copies > 200


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_updates_out_of_order_at_the_same_time_and_without_a_change_are_what_they_say(entity: Entity) -> None:
    asked = {Fault.OUT_OF_ORDER_UPDATE: 0.2, Fault.SAME_TIME_UPDATE: 0.2, Fault.NO_CHANGE_UPDATE: 0.2}
    newest: dict[int, dict] = {}
    seen: Counter[Fault] = Counter()
    records = changes(entity, 1500, {**NO_FAULTS, **asked})
    for record, row in zip(records, rows(entity, records), strict=True):
        before = newest.get(record.id)
        same = before is not None and {**row, "last_update_time": 0} == {**before, "last_update_time": 0}
        seen.update(record.faults)
        if Fault.OUT_OF_ORDER_UPDATE in record.faults:
            assert before is not None
            assert row["last_update_time"] < before["last_update_time"]
            continue
        assert same == (Fault.NO_CHANGE_UPDATE in record.faults)
        if Fault.SAME_TIME_UPDATE in record.faults:
            assert before is not None
            assert row["last_update_time"] == before["last_update_time"]
        newest[record.id] = row
    assert min(seen[f] for f in asked) > 100


def test_nothing_follows_a_tombstone_and_its_sequence_time_is_the_newest() -> None:
    times: defaultdict[int, int] = defaultdict(int)
    deleted: set[int] = set()
    records = changes(Entity.CUSTOMERS, 1500, {**NO_FAULTS, Fault.TOMBSTONE: 0.1})
    reader = Writer(SCHEMAS[Entity.CUSTOMERS])
    for record in records:
        assert record.id not in deleted
        if record.value is None:
            ((name, at),) = record.headers
            assert name == "sequence.time"
            assert int.from_bytes(at, "big") > times[record.id]
            deleted.add(record.id)
        else:
            row = reader.record(record.value[5:])
            assert row is not None
            times[record.id] = row["last_update_time"]
    assert len(deleted) > 50


def test_popular_products_and_big_stores_sell_most() -> None:
    stores = Counter(row["store_id"] for row in rows(Entity.SALES, sell(5000, NO_FAULTS)))
    assert stores.most_common(1)[0][0] == 1
    assert len(stores) == 20
    assert stores[1] > 5 * stores[20]
