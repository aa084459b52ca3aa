"""The catalogue levels off: new ids replace others, so what a generator holds does not grow with time."""

from collections import Counter

import numpy as np
import pytest

from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from services.generator.faults import Fault
from services.generator.records import ProducerBatch, Tally
from services.generator.retailer.changes import DimensionState
from services.generator.retailer.market import Market
from services.generator.retailer.partitions import StorePartitions
from services.generator.state.entries import entries
from tests.harness.generator_streams import NO_FAULTS, SECOND, START, dimension_stream, every_row

SIZE = 300


@pytest.mark.parametrize(
    "entity", [e if e is Entity.PRODUCTS else pytest.param(e, marks=pytest.mark.long) for e in DIMENSIONS]
)
def test_after_a_day_there_is_as_much_as_after_hours(entity: Entity) -> None:
    """Rows in memory, entries of the state and ids on the shelf, at a change a second for a day."""
    stream = dimension_stream(entity, size=SIZE, new_share=0.2)
    shelf = Market().shelves[entity]
    stored: set[bytes] = set()
    held: list[tuple[int, int, int]] = []
    records = list(stream.initial(START))
    for hour in range(24):
        records += [stream.change(START + (hour * 3600 + s) * SECOND) for s in range(3600)]
        shelf.apply(a for change in records for a in change.availabilities)
        batch = ProducerBatch.of([change.record for change in records])
        for key, value in entries(entity, batch, Tally()).items():
            (stored.discard if value is None else stored.add)(key)
        held.append((len(stream._rows), len(stored), len(shelf.ids)))
        records.clear()
    # Up to three seconds pass between a withdrawal and its tombstone. The state has the tally as well.
    most = SIZE + 4
    # The state has two entries of each product: its row and what was delivered.
    per_id = 2 if entity is Entity.PRODUCTS else 1
    assert max(max(rows, state / per_id, ids) for rows, state, ids in held) <= most + 1 / per_id
    assert held[-1][2] == SIZE
    assert stream._next > 5_000


def test_a_new_id_replaces_one_which_gets_its_tombstone_and_no_record_after_it() -> None:
    stream = dimension_stream(Entity.CUSTOMERS, size=50, new_share=0.3)
    records = [c.record for c in stream.initial(START)]
    assert len(records) == 50
    records += [stream.change(START + i * SECOND).record for i in range(5000)]
    open_ids: set[int] = set()
    closed: set[int] = set()
    for record, row in zip(records, every_row(Entity.CUSTOMERS, records), strict=True):
        assert record.id not in closed
        if row is None:
            assert record.faults == (Fault.TOMBSTONE,)
            closed.add(record.id)
            open_ids.remove(record.id)
        else:
            assert row[FIELDS[Entity.CUSTOMERS].key] == record.id
            open_ids.add(record.id)
    kinds = Counter("tombstone" if r.value is None else "upsert" for r in records)
    assert kinds["tombstone"] > 1000
    assert open_ids | closed == set(range(1, max(open_ids) + 1))


@pytest.mark.parametrize("size", [1, 40])
def test_a_smaller_size_is_reached_by_closing(size: int) -> None:
    first = dimension_stream(Entity.STORES, size=100, new_share=0.5)
    [*first.initial(START), *(first.change(START + i * SECOND) for i in range(1000))]
    assert len(first._alive) == 100
    second = dimension_stream(Entity.STORES, state=DimensionState(first._rows, Tally(5000)), size=size, new_share=0.5)
    assert list(second.initial(START)) == []
    changes = [second.change(START + (1000 + i) * SECOND) for i in range(2000)]
    assert len(second._alive) == size
    assert min(c.record.id for c in changes if c.is_new) == 5000


def test_a_share_of_zero_makes_nothing_new_and_closes_nothing() -> None:
    stream = dimension_stream(Entity.PRODUCTS, NO_FAULTS, size=50, new_share=0)
    initial = len(list(stream.initial(START)))
    changes = [stream.change(START + i * SECOND) for i in range(1000)]
    assert initial == 50
    assert not any(c.is_new or c.record.value is None for c in changes)


def test_the_keys_of_stores_that_came_and_went_are_dropped() -> None:
    stores = StorePartitions(4)
    for first in range(0, 100_000, 100):
        numbers = np.arange(first, first + 100)
        assert stores.keys(numbers) == [b"%d" % n for n in numbers]
    assert len(stores._keys) <= 4096
