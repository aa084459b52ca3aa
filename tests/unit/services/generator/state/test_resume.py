"""What a restart takes from the topics: only records that the cleaner accepts, and no id twice."""

from collections.abc import Sequence
from typing import Any

import pytest

from retail_stream.avro.decode import RecordSchema, frame
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian
from services.generator.faults import Fault
from services.generator.records import ProducerRecord
from services.generator.retailer.dimension import LAST_ID, DimensionState
from services.generator.retailer.sales import LAST_SALE, SalesStream
from services.generator.state.published import PublishedRecords
from services.generator.state.resume import conclusive, fold, sales_state
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
    return PublishedRecords(keys, values, timestamps_ms or [NOW_MS] * len(keys), decoded, reader.holds, **more)


def published(entity: Entity, records: Sequence[ProducerRecord]) -> PublishedRecords:
    return on_topic(
        entity, [r.key for r in records], [r.value for r in records], [r.at_us // 1000 for r in records],
        sequence_us={i: int.from_bytes(r.headers[0][1], "big") for i, r in enumerate(records) if r.headers},
    )  # fmt: skip


def golden(example: Example) -> PublishedRecords:
    raw, name = example.raw, SEQUENCE_TIME.encode()
    headers = {i: dict(own) for i, own in raw.headers.items()}
    sequence_us = {i: big_endian(own[name]) for i, own in headers.items() if name in own}
    return on_topic(raw.entity, raw.keys, raw.values, raw.timestamps, RAW_ID, sequence_us=sequence_us)


def row(entity: Entity, **fields: Any) -> dict[str, Any]:
    """A valid row, except for ``fields``."""
    (first,) = [e for e in examples("valid") if str(e) == f"{entity}-{entity.removesuffix('s')}"]
    assert first.value is not None
    return {**first.value, FIELDS[entity].time: START, **fields}


def one(entity: Entity, **fields: Any) -> PublishedRecords:
    value = row(entity, **fields)
    return on_topic(entity, [b"%d" % value[FIELDS[entity].key]], [encoder(entity)(value)])


def changed(entity: Entity, state: DimensionState, count: int = 200) -> list[ProducerRecord]:
    stream = dimension_stream(entity, HOSTILE, state=state)
    return [stream.change(START + i * 1_000_000).record for i in range(count)]


@pytest.mark.parametrize("example", examples("valid") + examples("invalid"), ids=str)
def test_a_golden_record_counts_exactly_when_the_cleaner_accepts_it(example: Example) -> None:
    there, is_valid = golden(example), "invalid" not in example.path.parts
    if example.entity is Entity.SALES:
        assert there.valid(Entity.SALES).height == is_valid
        # Valid or not, its id may be ours, and is not given again.
        assert sales_state(there).next_id > max([0, *there.decoded.table["transaction_id"]])
        again = sales_stream({**NO_FAULTS, Fault.DUPLICATE: 1.0}, state=sales_state(there))
        block = again.block(Slots.of([START] * 5), market())
        assert {Fault.DUPLICATE in block.faults.get(i, ()) for i in range(5)} == {is_valid}
        return
    state = fold(DimensionState(), example.entity, there)
    deletes = example.raw.values == [None]
    assert bool(state.rows) == (is_valid and not deletes)
    assert bool(state.deleted) == (is_valid and deletes)
    assert (state.next_id > 1) == is_valid
    assert all(r.id > 0 for r in changed(example.entity, state))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"9999999999", b"x"),
        (b"9" * 5000, b"x"),
        (b"9" * 5000, None),
        (b"2147483648", None),
        (b"007", None),
        (b" 7", None),
        (b"1_0", None),
        ("٣".encode(), None),
        (b"\xff", None),
        (b"", None),
        (None, None),
        (None, b""),
        (b"2147483647", frame(9, b"\0")),
    ],
    ids=repr,
)
def test_a_bad_key_or_a_bad_value_leaves_ids_as_they_are(key: bytes | None, value: bytes | None) -> None:
    state = fold(DimensionState(), Entity.CUSTOMERS, on_topic(Entity.CUSTOMERS, [key], [value]))
    assert (state.next_id, state.deleted, state.rows, state.records) == (1, set(), {}, 1)


def test_a_record_whose_headers_are_not_utf8_does_not_count() -> None:
    there = one(Entity.CUSTOMERS, customer_id=7)
    lost = PublishedRecords(there.keys, there.values, there.timestamps_ms, there.decoded, there.holds, unreadable={0})
    assert fold(DimensionState(), Entity.CUSTOMERS, there).next_id == 8
    assert fold(DimensionState(), Entity.CUSTOMERS, lost).next_id == 1


@pytest.mark.parametrize("timestamp_ms", [-1, 2**63 - 1, -(2**63)])
def test_a_timestamp_beyond_every_calendar_is_no_time_to_go_on_from(timestamp_ms: int) -> None:
    value = encoder(Entity.STORES)(row(Entity.STORES))
    state = fold(DimensionState(), Entity.STORES, on_topic(Entity.STORES, [b"7"], [value], [timestamp_ms]))
    assert state.newest_us == 0


def test_a_product_is_sold_only_at_prices_that_make_amounts_that_the_cleaner_takes() -> None:
    for price, sold in ((0.0, 1), (99_999_999.99, 1), (-5.0, 0), (999_999_999.0, 0), (1e300, 0)):
        assert len(fold(DimensionState(), Entity.PRODUCTS, one(Entity.PRODUCTS, price=price)).rows) == sold


@pytest.mark.parametrize(
    "fields", [{"unit_price": 999_999_999.0, "quantity": 2**31 - 1}, {"unit_price": -1.0}], ids=str
)
def test_a_purchase_that_no_right_return_can_follow_is_not_brought_back(fields: dict[str, Any]) -> None:
    for more, returned in ((fields, False), ({"quantity": 3, "unit_price": 10.0}, True)):
        before = sales_state(one(Entity.SALES, store_id=1, customer_id=1, product_id=1, **more))
        block = sales_stream({**NO_FAULTS, Fault.RETURN: 1.0}, state=before).block(Slots.of([START] * 50), market())
        assert any(Fault.RETURN in f for f in block.faults.values()) == returned


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_after_the_largest_id_there_is_one_clear_error(entity: Entity) -> None:
    key = FIELDS[entity].key
    last = fold(DimensionState(), entity, one(entity, **{key: LAST_ID - 1}))
    stream = dimension_stream(entity, state=last)
    with pytest.raises(RetailStreamError, match=rf"^{entity}\.raw has the largest possible id, {LAST_ID}, so"):
        [stream.change(START + i) for i in range(1000)]


def test_after_the_largest_id_of_a_sale_there_is_one_clear_error_and_a_bad_one_is_none() -> None:
    def stream(there: PublishedRecords) -> SalesStream:
        return sales_stream(state=sales_state(there))

    with pytest.raises(
        RetailStreamError, match=r"^sales\.raw has an id close to the largest .* 9223372036854775807, so"
    ):
        stream(one(Entity.SALES, transaction_id=LAST_SALE)).block(Slots.of([START] * 3), market())
    bad = one(Entity.SALES, transaction_id=LAST_SALE, unit_price=float("nan"))
    assert stream(bad).block(Slots.of([START] * 3), market()).ids == [2, 3, 4]


@pytest.mark.parametrize("entity", DIMENSIONS)
def test_what_a_generator_has_published_is_what_it_goes_on_from(entity: Entity) -> None:
    records = changes(entity, 2000, HOSTILE)
    state = fold(DimensionState(), entity, published(entity, records))
    assert state.next_id == max(r.id for r in records) + 1
    assert state.records == len(records)
    assert state.deleted == {r.id for r in records if r.value is None}
    newest: dict[int, dict] = {}
    bad = {Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.FUTURE_EVENT_TIME}
    for r, seen in zip(records, every_row(entity, records), strict=True):
        if seen is not None and not bad & set(r.faults):
            before = newest.get(r.id)
            if before is None or before["last_update_time"] <= seen["last_update_time"]:
                newest[r.id] = seen
    assert state.rows == {i: r for i, r in newest.items() if i not in state.deleted}


@pytest.mark.parametrize("fault", [Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.DUPLICATE])
@pytest.mark.parametrize("seed", range(4))
def test_no_id_is_given_twice_after_an_end_that_tells_none(fault: Fault, seed: int) -> None:
    """The end of the topic is read in growing spans until it is conclusive, as StateReader does."""
    offer, slots = market(), Slots.of([START] * 4096)
    stream = sales_stream(seed=seed)
    records = [r for _ in range(3) for r in stream.block(slots, offer).records()]
    worse = sales_stream({**NO_FAULTS, fault: 1.0}, seed, state=sales_state(published(Entity.SALES, records)))
    records += [r for _ in range(8) for r in worse.block(slots, offer).records()]
    span = 2000
    while span < len(records) and not conclusive(published(Entity.SALES, records[-span:]).decoded):
        span *= 2
    assert sales_state(published(Entity.SALES, records[-span:])).next_id > max(r.id for r in records)
