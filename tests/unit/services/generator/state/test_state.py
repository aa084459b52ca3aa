"""What a restart goes on from: the newest rows, no id twice, and only sales that the cleaner accepts."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.errors import RetailStreamError
from services.generator.faults import Fault
from services.generator.records import ProducerBatch, ProducerRecord, Tally
from services.generator.retailer.changes import DimensionState
from services.generator.retailer.dimension import LAST_ID
from services.generator.retailer.sales import LAST_SALE, SalesState
from services.generator.state.entries import entries, stored_rows, stored_tally
from services.generator.state.published import PublishedRecords
from services.generator.state.recent import recent_sales
from services.generator.timing.schedule import Slots
from tests.harness.examples import RAW_ID, Example, examples
from tests.harness.generator_streams import (
    HOSTILE,
    NO_FAULTS,
    SCHEMAS,
    START,
    changes,
    dimension_stream,
    encoder,
    every_row,
    market,
    sales_stream,
)

READERS = {e: RecordSchema(SCHEMAS[e]) for e in Entity}
NOW_MS = START // 1000


def on_topic(
    entity: Entity,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int] | None = None,
    schema_id: int = 1,
    **more: Any,
) -> PublishedRecords:
    reader = READERS[entity]
    decoded = reader.read(values, {schema_id: reader})
    return PublishedRecords(keys, values, timestamps_ms or [NOW_MS] * len(keys), decoded, **more)


def published(entity: Entity, records: Sequence[ProducerRecord]) -> PublishedRecords:
    return on_topic(
        entity, [r.key for r in records], [r.value for r in records], [r.at_us // 1000 for r in records]
    )  # fmt: skip


def golden(example: Example) -> PublishedRecords:
    raw = example.raw
    return on_topic(raw.entity, raw.keys, raw.values, raw.timestamps, RAW_ID)


def row(entity: Entity, **fields: Any) -> dict[str, Any]:
    """A valid row, except for ``fields``."""
    (first,) = [e for e in examples("valid") if str(e) == f"{entity}-{entity.removesuffix('s')}"]
    assert first.value is not None
    return {**first.value, FIELDS[entity].time: START, **fields}


def one(entity: Entity, **fields: Any) -> PublishedRecords:
    value = row(entity, **fields)
    return on_topic(entity, [b"%d" % value[FIELDS[entity].key]], [encoder(entity)(value)])


class Kept:
    """The entries of `generator.state`, and what a restart makes of them."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self.tally = Tally()
        self.stored: dict[bytes, bytes] = {}

    def take(self, records: Sequence[ProducerRecord]) -> None:
        """The records of one transaction."""
        batch = ProducerBatch.of(records)
        self.tally = self.tally.after(batch)
        for key, value in entries(self.entity, batch, self.tally).items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value

    def rows(self) -> dict[int, dict]:
        values = [*stored_rows(self.entity, self.stored)]
        reader = READERS[self.entity]
        found = reader.read(values, {1: reader}).table.iter_rows(named=True)
        return {row[FIELDS[self.entity].key]: row for row in found}


@pytest.mark.parametrize("example", examples("valid") + examples("invalid"), ids=str)
def test_a_golden_record_counts_exactly_when_the_cleaner_accepts_it(example: Example) -> None:
    there, is_valid = golden(example), "invalid" not in example.path.parts
    assert bool(there.valid_ids(example.entity)) == (is_valid and example.raw.values != [None])
    if example.entity is Entity.SALES:
        again = sales_stream({**NO_FAULTS, Fault.DUPLICATE: 1.0}, state=SalesState(Tally(), recent_sales(there)))
        block = again.block(Slots.of([START] * 5), market())
        assert {Fault.DUPLICATE in block.faults.get(i, ()) for i in range(5)} == {is_valid}


def test_a_record_whose_headers_are_not_utf8_does_not_count() -> None:
    there = one(Entity.CUSTOMERS, customer_id=7)
    lost = PublishedRecords(there.keys, there.values, there.timestamps_ms, there.decoded, unreadable={0})
    assert there.valid_ids(Entity.CUSTOMERS) == [7]
    assert lost.valid_ids(Entity.CUSTOMERS) == []


@pytest.mark.parametrize("timestamp_ms", [-1, 2**63 - 1, -(2**63)])
def test_a_timestamp_beyond_every_calendar_is_no_time_to_go_on_from(timestamp_ms: int) -> None:
    value = encoder(Entity.STORES)(row(Entity.STORES))
    assert on_topic(Entity.STORES, [b"7"], [value], [timestamp_ms]).newest_us == 0


@pytest.mark.parametrize(
    "fields", [{"unit_price": 999_999_999.0, "quantity": 2**31 - 1}, {"unit_price": -1.0}], ids=str
)
def test_a_purchase_that_no_right_return_can_follow_is_not_brought_back(fields: dict[str, Any]) -> None:
    for more, returned in ((fields, False), ({"quantity": 3, "unit_price": 10.0}, True)):
        before = recent_sales(one(Entity.SALES, store_id=1, customer_id=1, product_id=1, **more))
        block = sales_stream({**NO_FAULTS, Fault.RETURN: 1.0}, state=SalesState(Tally(), before)).block(
            Slots.of([START] * 50), market()
        )
        assert any(Fault.RETURN in f for f in block.faults.values()) == returned


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_after_the_largest_id_there_is_one_clear_error(entity: Entity) -> None:
    stream = dimension_stream(entity, state=DimensionState({}, Tally(LAST_ID)))
    with pytest.raises(RetailStreamError, match=rf"^{entity}\.raw has the largest possible id, {LAST_ID}, so"):
        [stream.change(START + i) for i in range(1000)]


def test_after_the_largest_id_of_a_sale_there_is_one_clear_error() -> None:
    stream = sales_stream(state=SalesState(Tally(LAST_SALE - 2)))
    with pytest.raises(
        RetailStreamError, match=r"^sales\.raw has an id close to the largest .* 9223372036854775807, so"
    ):
        stream.block(Slots.of([START] * 3), market())


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_after_each_transaction_the_state_holds_the_newest_row_of_each_id(entity: Entity) -> None:
    kept, rng = Kept(entity), random.Random(1)
    records = changes(entity, 2000, HOSTILE)
    newest: dict[int, dict] = {}
    bad = {Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.FUTURE_EVENT_TIME}
    done = 0
    while done < len(records):
        batch = records[done : done + rng.randrange(1, 300)]
        done += len(batch)
        kept.take(batch)
        for r, seen in zip(batch, every_row(entity, batch), strict=True):
            if r.value is None:
                newest.pop(r.id)
            elif seen is not None and not bad & set(r.faults):
                before = newest.get(r.id)
                if before is None or before["last_update_time"] <= seen["last_update_time"]:
                    newest[r.id] = seen
        assert kept.rows() == newest
        assert kept.tally == Tally(max(r.id for r in records[:done]) + 1, done, batch[-1].at_us)
        assert stored_tally(entity, kept.stored) == kept.tally
    assert any(r.value is None for r in records)


def test_a_restart_makes_the_changes_that_the_state_leads_to() -> None:
    """A stream from the rows that were kept is one from the rows that were in memory."""
    kept = Kept(Entity.CUSTOMERS)
    first = dimension_stream(Entity.CUSTOMERS, HOSTILE)
    kept.take([c.record for c in first.initial(START)])
    kept.take([first.change(START + i * 1_000_000).record for i in range(500)])
    streams = [
        dimension_stream(Entity.CUSTOMERS, HOSTILE, 2, DimensionState(rows, kept.tally))
        for rows in (kept.rows(), dict(first._rows))
    ]
    again, wanted = ([s.change(START + (500 + i) * 1_000_000) for i in range(500)] for s in streams)
    assert again == wanted


@pytest.mark.parametrize("fault", [Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.DUPLICATE])
def test_no_id_is_given_twice_after_sales_that_show_none(fault: Fault) -> None:
    kept, offer, slots = Kept(Entity.SALES), market(), Slots.of([START] * 4096)
    records: list[ProducerRecord] = []
    for faults in (NO_FAULTS, {**NO_FAULTS, fault: 1.0}):
        stream = sales_stream(faults, state=SalesState(kept.tally, recent_sales(published(Entity.SALES, records))))
        for _ in range(3):
            made = [*stream.block(slots, offer).records()]
            kept.take(made)
            records += made
            assert kept.tally.next_id == max(r.id for r in records) + 1
    assert kept.tally.records == len(records)
    assert len(kept.stored) == 1
