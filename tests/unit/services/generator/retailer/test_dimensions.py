"""Changes of the dimensions are valid, except for their faults."""

import random
import re
from collections import Counter, defaultdict

import pytest

from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from services.generator.faults import Fault
from services.generator.retailer import customers, stores
from services.generator.retailer.pools import Pools
from tests.harness.generator_streams import HOSTILE, NO_FAULTS, START, changes, every_row, rows


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
    for record, row in zip(records, every_row(Entity.CUSTOMERS, records), strict=True):
        assert record.id not in deleted
        if record.value is None:
            ((name, at),) = record.headers
            assert name == "sequence.time"
            assert int.from_bytes(at, "big") > times[record.id]
            deleted.add(record.id)
        else:
            assert row is not None
            times[record.id] = row["last_update_time"]
    assert len(deleted) > 50


@pytest.mark.parametrize(
    ("entity", "field", "fault"),
    [(Entity.CUSTOMERS, "email", Fault.NULL_EMAIL), (Entity.STORES, "manager", Fault.NULL_MANAGER)],
)
def test_every_empty_field_is_a_fault_of_its_record_also_where_it_was_empty_before(
    entity: Entity, field: str, fault: Fault
) -> None:
    unreadable = {Fault.CORRUPT_BYTES: 0.0, Fault.TOMBSTONE: 0.0}
    records = changes(entity, 3000, {**HOSTILE, **unreadable})
    for record, row in zip(records, rows(entity, records), strict=True):
        assert (row[field] is None) == (fault in record.faults)
    assert any({fault, Fault.NO_CHANGE_UPDATE} <= set(r.faults) for r in records)


def test_every_address_ends_in_its_city_and_region_whatever_the_street_contains() -> None:
    """By the form that views group by; a store is named after its city."""
    form = re.compile(r"(?P<street>.+), (?P<city>[^,]+), (?P<region>[A-Z]{2,3}) (?P<postcode>[^,]+)")
    rng, pools = random.Random(1), Pools(7)
    cities: Counter[tuple[str, str]] = Counter()
    for number in range(3000):
        customer, store = customers.new(rng, pools, number, START, 0), stores.new(rng, pools, number, START, 0)
        moved = customers.update(rng, pools, customer)
        for row in (customer, moved, store):
            address = form.fullmatch(row["address"])
            assert address, row["address"]
            cities[address["city"], address["region"]] += 1
        assert address is not None
        assert store["name"].startswith(address["city"])
    regions = {region for _, region in cities}
    assert {"ENG", "CA"} <= regions
    assert len(regions) > 50
    assert any(not city.isascii() for city, _ in cities)
    # Grouping by cities says something: there are many customers in each.
    assert len(cities) < 300
