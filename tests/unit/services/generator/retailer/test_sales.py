"""Sales are valid, except for their faults."""

from collections import Counter

import numpy as np
import pytest

from retail_stream.entities import Entity
from services.generator.faults import UNKNOWN_SCHEMA_ID, Fault
from services.generator.retailer.assortment import Assortment
from services.generator.retailer.partitions import partition_of
from services.generator.retailer.supply import Availability
from services.generator.timing.baskets import Baskets, first_lines
from services.generator.timing.latency import Distribution, Latency
from services.generator.timing.schedule import Slots
from tests.harness.generator_streams import (
    DEFAULTS,
    HOSTILE,
    NO_FAULTS,
    SECOND,
    START,
    every_row,
    market,
    rows,
    sales_stream,
    sell,
)


def test_money_adds_up_to_the_cent() -> None:
    for row in rows(Entity.SALES, sell(2000, DEFAULTS)):
        assert row["unit_price"] > 0
        assert row["total_amount"] == pytest.approx(row["quantity"] * row["unit_price"], abs=1e-9)
        for name in ("unit_price", "total_amount", "discount_applied", "tax_amount"):
            assert round(row[name], 2) == row[name]


def test_labels_say_what_is_in_the_record() -> None:
    often = dict.fromkeys((Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.DUPLICATE), 0.02)
    records = sell(5000, {**DEFAULTS, **often})
    for record, row in zip(records, every_row(Entity.SALES, records), strict=True):
        assert record.value is not None
        if Fault.CORRUPT_BYTES in record.faults:
            assert row is None or record.value[0] != 0
            continue
        assert row is not None
        assert (int.from_bytes(record.value[1:5], "big") == UNKNOWN_SCHEMA_ID) == (
            Fault.UNKNOWN_SCHEMA_ID in record.faults
        )
        assert (row["quantity"] < 0) == (Fault.RETURN in record.faults)
        if Fault.DUPLICATE in record.faults:
            continue
        ahead = row["event_time"] - record.at_us // 1000 * 1000
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


def test_popular_products_and_big_stores_sell_most() -> None:
    stores = Counter(row["store_id"] for row in rows(Entity.SALES, sell(5000, NO_FAULTS)))
    assert stores.most_common(1)[0][0] == 1
    assert len(stores) == 20
    assert stores[1] > 5 * stores[20]


def test_a_sale_that_is_too_late_lies_beyond_what_the_latency_promises() -> None:
    seen = 0
    records = sell(3000, {**NO_FAULTS, Fault.TOO_LATE_EVENT: 0.1, Fault.LATE_EVENT: 0.1})
    for record, row in zip(records, rows(Entity.SALES, records), strict=True):
        delay = record.at_us - row["event_time"]
        assert (delay >= 330 * SECOND) == (Fault.TOO_LATE_EVENT in record.faults)
        assert (2 * SECOND < delay <= 30 * SECOND) == (Fault.LATE_EVENT in record.faults)
        seen += Fault.TOO_LATE_EVENT in record.faults
    assert 200 < seen < 400


@pytest.mark.parametrize(("distribution", "median_s"), [("uniform", 16.0), ("exponential", 6.5), ("pareto", 3.0)])
def test_late_sales_are_as_late_as_their_distribution_says(distribution: str, median_s: float) -> None:
    faults = {**NO_FAULTS, Fault.LATE_EVENT: 1.0}
    stream = sales_stream(faults, latency=Latency(30 * SECOND, Distribution(distribution)))
    slots = Slots.of([START + 60 * SECOND] * 4000)
    records = list(stream.block(slots, market()).records())
    delays = [r.at_us - row["event_time"] for r, row in zip(records, rows(Entity.SALES, records), strict=True)]
    assert np.median(delays) / SECOND == pytest.approx(median_s, rel=0.1)
    assert 25 * SECOND < max(delays) <= 30 * SECOND


def test_a_silent_partition_sells_nothing_and_its_next_record_is_marked() -> None:
    stream = sales_stream(HOSTILE, latency=Latency(30 * SECOND), partitions=4)
    offer, at = market(), np.full(1000, START + 60 * SECOND)
    before = list(stream.block(Slots.of(at), offer).records())
    silent = list(stream.block(Slots(at, np.full(1000, 2), np.arange(1000)), offer).records())
    after = list(stream.block(Slots.of(at), offer).records())
    places = [[partition_of(r.key, 4) for r in records] for records in (before, silent, after)]
    assert 2 in places[0]
    assert 2 not in places[1]
    first = places[2].index(2)
    assert [i for i, r in enumerate(after) if Fault.SILENCE in r.faults] == [first]
    assert not any(Fault.SILENCE in r.faults for r in (*before, *silent))


def test_sales_are_as_even_and_as_quick_whatever_ids_other_sources_have_given() -> None:
    offer = market()
    far = [1_000_000, 100_000_000, 2**31 - 1]
    offer.customers.apply([Availability(START, i) for i in (*far, -5)])
    stream = sales_stream()
    sold = Counter(
        row["customer_id"]
        for _ in range(5)
        for row in rows(Entity.SALES, list(stream.block(Slots.of([START] * 4096), offer).records()))
    )
    assert len(sold) == 504
    assert all(sold[i] > 10 for i in far)
    assert max(sold.values()) < 100
    assert sum(a.nbytes for a in vars(offer.customers).values() if isinstance(a, np.ndarray)) < 100_000


def test_what_was_given_up_is_never_chosen_again_and_ids_may_come_in_any_order() -> None:
    shelf = Assortment()
    shelf.apply([Availability(0, 30, 3), Availability(0, 10, 1), Availability(0, 20, 2), Availability(0, 10, None)])
    u = np.linspace(0, 1, 100, endpoint=False)
    assert set(shelf.evenly(u)) == set(shelf.popular(u)) == {20, 30}
    assert shelf.prices(np.array([1, 0]), np.array([9, 9])).tolist() == [3, 2]
    assert shelf.alive(np.array([10, 20, 25, 30, 31, -1])).tolist() == [False, True, False, True, False, False]
    assert shelf.ids.tolist() == [20, 30]
    shelf.apply([Availability(1, 20, None), Availability(1, 30, None)])
    assert shelf.empty


def test_a_block_sells_no_more_of_a_product_than_there_is() -> None:
    offer, stream = market(), sales_stream()
    before = offer.products.stock.copy()
    slots = Slots.of(np.arange(4096) + START, first_lines(Baskets(1).ends(0, 4096)))
    sold = Counter[int]()
    for row in rows(Entity.SALES, stream.block(slots, offer).records()):
        sold[row["product_id"]] += row["quantity"]
    left = before - np.array([sold[int(i)] for i in offer.products.ids])
    assert (left == offer.products.stock).all()
    assert (left >= 0).all()
    # Popular products were wanted more often than they were there.
    assert (left[:3] < 5).all()


def test_where_nearly_everything_is_sold_out_sales_go_on_below_zero_in_smaller_baskets() -> None:
    offer = market()
    offer.products.apply([Availability(START, int(i), None) for i in offer.products.ids])
    offer.products.apply([Availability(START, i, 1000, delivered=5) for i in (1, 2, 3)])
    slots = Slots.of(np.arange(4096) + START, first_lines(Baskets(1).ends(0, 4096)))
    sold = rows(Entity.SALES, sales_stream().block(slots, offer).records())
    assert offer.products.stock.sum() == 15 - sum(row["quantity"] for row in sold)
    assert offer.products.stock.max() < 0
    baskets: dict[tuple, set[int]] = {}
    for row in sold:
        seen = baskets.setdefault((row["customer_id"], row["event_time"]), set())
        assert row["product_id"] not in seen
        seen.add(row["product_id"])
    assert max(map(len, baskets.values())) == 3
