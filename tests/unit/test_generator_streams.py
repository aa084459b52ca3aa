"""The generator's records: the same from run to run, right in themselves, and dirty as often as asked."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.wire import Writer, decode
from services.generator import evolution
from services.generator.catalogue import KINDS
from services.generator.columns import ColumnEncoder
from services.generator.dimension import DimensionStream, State
from services.generator.faults import PROFILES, STRANGE_SCHEMA_ID, Expected, Fault, Profile, expected
from services.generator.latency import Distribution
from services.generator.ledger import Ledger
from services.generator.market import Market
from services.generator.partitions import partition_of
from services.generator.pools import Pools
from services.generator.records import Batch, Encoder, Evolution, Record
from services.generator.sales import VOCABULARIES, SalesStream, Tail
from services.generator.schedule import Slots

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
    stream = SalesStream(np.random.default_rng(seed), faults, latency_s * SECOND, COLUMNS, Tail())
    offer = market()
    slots = [START + 60 * SECOND + i * SECOND // 50 for i in range(count)]
    return [r for i in range(0, count, 50) for r in stream.block(Slots.of(slots[i : i + 50]), offer).records()]


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


def test_a_sale_that_is_too_late_lies_beyond_what_the_latency_promises() -> None:
    seen = 0
    for record in sell(3000, {**NO_FAULTS, Fault.TOO_LATE_EVENT: 0.1, Fault.LATE_EVENT: 0.1}):
        (row,) = rows(Entity.SALES, [record])
        delay = record.at_us - row["event_time"]
        assert (delay >= 330 * SECOND) == (Fault.TOO_LATE_EVENT in record.faults)
        assert (2 * SECOND < delay <= 30 * SECOND) == (Fault.LATE_EVENT in record.faults)
        seen += Fault.TOO_LATE_EVENT in record.faults
    assert 200 < seen < 400


@pytest.mark.parametrize(("distribution", "median_s"), [("uniform", 16.0), ("exponential", 6.5), ("pareto", 3.0)])
def test_late_sales_are_as_late_as_their_distribution_says(distribution: str, median_s: float) -> None:
    faults = {**NO_FAULTS, Fault.LATE_EVENT: 1.0}
    stream = SalesStream(
        np.random.default_rng(1), faults, 30 * SECOND, COLUMNS, Tail(), distribution=Distribution(distribution)
    )
    slots = Slots.of([START + 60 * SECOND] * 4000)
    delays = [
        r.at_us - row["event_time"] for r in stream.block(slots, market()).records() for row in rows(Entity.SALES, [r])
    ]
    assert np.median(delays) / SECOND == pytest.approx(median_s, rel=0.1)
    assert 25 * SECOND < max(delays) <= 30 * SECOND


def test_a_silent_partition_sells_nothing_and_its_next_record_is_marked() -> None:
    stream = SalesStream(np.random.default_rng(1), HOSTILE, 30 * SECOND, COLUMNS, Tail(), partitions=4)
    offer, at = market(), np.full(1000, START + 60 * SECOND)
    before = list(stream.block(Slots.of(at), offer).records())
    silent = list(stream.block(Slots(at, np.full(1000, 2)), offer).records())
    after = list(stream.block(Slots.of(at), offer).records())
    places = [[partition_of(r.key, 4) for r in records] for records in (before, silent, after)]
    assert 2 in places[0]
    assert 2 not in places[1]
    first = places[2].index(2)
    assert [i for i, r in enumerate(after) if Fault.SILENCE in r.faults] == [first]
    assert not any(Fault.SILENCE in r.faults for r in (*before, *silent))


def test_a_record_that_must_be_refused_is_refused_for_all_its_faults() -> None:
    assert expected([Fault.RETURN, Fault.LATE_EVENT]) == {
        Fault.RETURN: Expected.KEPT,
        Fault.LATE_EVENT: Expected.LATE,
    }
    assert set(expected([Fault.RETURN, Fault.NEGATIVE_DISCOUNT, Fault.BURST]).values()) == {Expected.REJECTED}


def test_the_ledger_has_one_entry_for_each_fault_with_its_place() -> None:
    schema = json.loads((topics.SCHEMAS / "results" / "generator.faults.avsc").read_text())
    batch = Batch.of(sell(2000, HOSTILE))
    places = {row: (row % 4, 10 * row) for row in batch.faults}
    entries = [Writer(schema).record(e[5:]) for e in Ledger(schema, 1).entries(Entity.SALES, batch, places)]
    assert entries == [
        {
            "entity": "sales",
            "partition": row % 4,
            "offset": 10 * row,
            "id": batch.ids[row],
            "fault": fault,
            "expected": outcome,
        }
        for row, faults in batch.faults.items()
        for fault, outcome in expected(faults).items()
    ]
    assert len(entries) > 500


def test_batches_are_cut_and_joined_without_losing_a_fault_or_a_header() -> None:
    records = changes(Entity.CUSTOMERS, 800, HOSTILE)
    whole = Batch.of(records)
    joined = Batch()
    for start in range(0, len(whole), 97):
        joined.append(whole.part(start, start + 97))
    assert list(joined.records()) == records
    assert any(r.headers for r in records)


@pytest.mark.parametrize("entity", Entity)
def test_a_newer_schema_comes_in_mid_stream_and_readers_of_the_old_one_see_the_same(entity: Entity) -> None:
    at_us = START + 61 * SECOND
    if entity is Entity.SALES:
        later = Evolution(at_us, evolution.columns(2))
        streams = [
            SalesStream(np.random.default_rng(1), NO_FAULTS, 0, COLUMNS, Tail(), evolution=e) for e in (None, later)
        ]
        slots = Slots.of([START + 60 * SECOND + i * SECOND // 50 for i in range(100)])
        old, new = (list(s.block(slots, market()).records()) for s in streams)
    else:
        later = Evolution(at_us, evolution.rows(entity, 2))
        dimension = [
            DimensionStream(KINDS[entity], random.Random(1), POOLS, NO_FAULTS, encoder(entity), State(), e)
            for e in (None, later)
        ]
        moments = [START + 60 * SECOND + i * SECOND // 50 for i in range(100)]
        old, new = ([s.change(at).record for at in moments] for s in dimension)
    reader = Writer(SCHEMAS[entity])
    writers = {1: reader, 2: Writer(evolution.schema(entity))}
    seen = [
        [decode([r.value], writers, reader).table.select(list(reader.columns)).row(0) for r in rs] for rs in (old, new)
    ]
    assert seen[0] == seen[1]
    assert [r.value[4] for r in new if r.value] == [1] * 50 + [2] * 50
    added = next(iter(writers[2].names - reader.names))
    assert None not in {writers[2].record(r.value[5:])[added] for r in new[50:]}  # type: ignore[index]
