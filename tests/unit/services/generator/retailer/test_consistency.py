"""The retailer is consistent: baskets, prices and open stores as of the sale, and a stock that falls with the sales."""

from bisect import bisect_right
from collections import Counter, defaultdict
from functools import cache
from itertools import groupby

import pytest

from retail_stream.entities import FIELDS, Entity
from services.generator.faults import REJECTED, Fault
from services.generator.records import ProducerRecord
from services.generator.retailer.supply import counted_before
from services.generator.state.entries import stored_pieces
from tests.harness.generator_streams import DEFAULTS, HOSTILE, SECOND, START, every_row
from tests.harness.retailer import Retailer

DAY = 86_400 * SECOND
# An hour of a shop at its usual faults and of one with all of them, and a week with busy and quiet hours.
TIMES = ["hours", "hostile hours", pytest.param("week", marks=pytest.mark.long)]
Sold = list[tuple[ProducerRecord, dict]]


@cache
def retailer(name: str) -> Retailer:
    """A retailer after two runs, of which the second went on from the state of the first."""
    if name == "week":
        made = Retailer(DEFAULTS, 0.05, 0.02, counted_after_us=300 * SECOND)
        made.run(START, 15_000, seed=1, with_hours=True)
        made.run(made.tallies[Entity.SALES].newest_us + 60 * SECOND, 15_240, seed=2, with_hours=True)
        assert made.tallies[Entity.SALES].newest_us > START + 6.9 * DAY
        return made
    made = Retailer(HOSTILE if "hostile" in name else DEFAULTS, 2, 1, counted_after_us=5 * SECOND)
    made.run(START, 4000, seed=1)
    made.run(made.tallies[Entity.SALES].newest_us + 10 * SECOND, 4000, seed=2)
    return made


def sales_of(made: Retailer) -> Sold:
    """The valid sales in the order of their publication, without those that a source sent twice."""
    records = made.valid(Entity.SALES, *REJECTED, Fault.DUPLICATE)
    return [(r, row) for r, row in zip(records, every_row(Entity.SALES, records), strict=True) if row is not None]


class History:
    """The rows of a dimension as of a moment, by the contract's rules."""

    def __init__(self, made: Retailer, entity: Entity) -> None:
        records = made.valid(entity, *REJECTED)
        events: defaultdict[int, list[tuple]] = defaultdict(list)
        for record, row in zip(records, every_row(entity, records), strict=True):
            if row is None:
                ((_, at),) = record.headers
                events[record.id].append((int.from_bytes(at, "big"), 1, (), None))
            else:
                order = tuple((v is not None, v) for v in row.values())
                events[record.id].append((row[FIELDS[entity].time], 0, order, row))
        self._events = {i: sorted(some, key=lambda e: e[:3]) for i, some in events.items()}

    def at(self, number: int, at_us: int) -> dict | None:
        events = self._events[number]
        return events[max(bisect_right(events, at_us, key=lambda e: e[0]) - 1, 0)][3]


@pytest.mark.parametrize("name", TIMES)
def test_no_sale_in_a_closed_or_renovating_store_as_of_the_sale(name: str) -> None:
    made = retailer(name)
    stores, statuses = History(made, Entity.STORES), Counter[str]()
    for _, sale in sales_of(made):
        store = stores.at(sale["store_id"], sale["event_time"])
        assert store is not None
        statuses[store["status"]] += 1
    assert set(statuses) == {"open", "limited hours"}
    seen = {row["status"] for row in every_row(Entity.STORES, made.records[Entity.STORES]) if row is not None}
    assert seen == {"open", "limited hours", "renovation", "closed"}


@pytest.mark.parametrize("name", TIMES)
def test_a_sale_has_the_price_as_of_its_time_and_a_return_that_of_its_purchase(name: str) -> None:
    made = retailer(name)
    products, bought = History(made, Entity.PRODUCTS), Counter[tuple]()
    prices: defaultdict[int, set[float]] = defaultdict(set)
    earliest: dict[tuple, int] = {}
    for _, sale in sales_of(made):
        purchase = (sale["customer_id"], sale["product_id"], sale["store_id"], sale["unit_price"])
        bought[purchase] += sale["quantity"]
        if sale["quantity"] < 0:
            assert bought[purchase] >= 0
            assert sale["event_time"] >= earliest[purchase]
            continue
        earliest.setdefault(purchase, sale["event_time"])
        product = products.at(sale["product_id"], sale["event_time"])
        assert product is not None
        assert sale["unit_price"] == product["price"]
        prices[sale["product_id"]].add(sale["unit_price"])
    assert max(map(len, prices.values())) > 5


@pytest.mark.parametrize("name", TIMES)
def test_a_basket_is_known_by_store_customer_payment_and_time_and_its_products_differ(name: str) -> None:
    made = retailer(name)
    baskets: defaultdict[tuple, list[dict]] = defaultdict(list)
    for _, sale in sales_of(made):
        if sale["quantity"] > 0:
            key = tuple(sale[f] for f in ("store_id", "customer_id", "payment_method", "event_time"))
            baskets[key].append(sale)
    lines = Counter(len(sales) for sales in baskets.values())
    assert set(lines) == {1, 2, 3, 4, 5, 6}
    # Some lines are damaged or become returns.
    assert 1.7 < sum(n * count for n, count in lines.items()) / lines.total() < 2.1
    for sales in baskets.values():
        assert len({sale["product_id"] for sale in sales}) == len(sales)
    ids = [sale["transaction_id"] for _, sale in sales_of(made)]
    assert len(set(ids)) == len(ids)
    # The lines of a basket are published together.
    times = [(r.at_us, row["event_time"], row["customer_id"]) for r, row in sales_of(made) if row["quantity"] > 0]
    together = [len({e for _, e, _ in some}) for _, some in groupby(times, key=lambda t: t[0])]
    assert set(together) == {1}


@pytest.mark.parametrize("name", TIMES)
def test_stock_falls_with_sales_and_rises_with_deliveries_and_never_falls_below_zero(name: str) -> None:
    made = retailer(name)
    still = (*REJECTED, Fault.OUT_OF_ORDER_UPDATE, Fault.SAME_TIME_UPDATE, Fault.NO_CHANGE_UPDATE)
    records = made.valid(Entity.PRODUCTS, *still)
    events: list[tuple[int, int, dict | ProducerRecord]] = [(r.at_us, 1, row) for r, row in sales_of(made)]
    rows = every_row(Entity.PRODUCTS, records)
    events += [(r.at_us, 0, row) for r, row in zip(records, rows, strict=True) if row is not None]
    delivered: dict[int, int] = {}
    sold: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    left: Counter[int] = Counter()
    deliveries = lower = 0
    for at_us, is_sale, row in sorted(events, key=lambda e: e[:2]):
        assert isinstance(row, dict)
        number = row["product_id"]
        if is_sale:
            sold[number].append((at_us, row["quantity"]))
            left[number] += row["quantity"]
            assert delivered[number] - left[number] >= 0
            continue
        assert row["stock_quantity"] >= 0
        start_us = max(s for s in made.starts if s <= at_us)
        # A change counts the sales of earlier runs, and those that are some seconds old.
        until_us = max(counted_before(start_us, at_us, made.counted_after_us), start_us)
        counted = sum(pieces for at, pieces in sold[number] if at < until_us)
        before, delivered[number] = delivered.get(number), row["stock_quantity"] + counted
        if before is not None:
            assert delivered[number] >= before
            deliveries += delivered[number] > before
            lower += delivered[number] == before
    assert deliveries > 10
    assert lower > 500
    # What a restart goes on from, and nothing of closed products.
    open_ids = {int(k.partition(b"/")[2]) for k in made.stored if k.startswith(b"products/")}
    kept = stored_pieces(made.stored)
    assert kept.delivered == {number: delivered[number] for number in open_ids}
    assert kept.sold.keys() <= open_ids
    assert {number: kept.sold.get(number, 0) for number in open_ids} == {number: left[number] for number in open_ids}
