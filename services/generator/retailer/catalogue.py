"""The three dimensions side by side: how each one starts, grows and changes, and which fault empties which field."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from retail_stream.entities import Entity
from services.generator.faults import Fault
from services.generator.records import Row
from services.generator.retailer import customers, products, stores
from services.generator.retailer.pools import Pools


@dataclass(frozen=True)
class DimensionSpec:
    """How one dimension starts, grows, levels off and changes.

    ``new(rng, pools, id, at_us, age_us)`` makes a row without ``last_update_time``; ``update(rng, pools, row)`` makes
    a changed row and keeps that time. ``initial``: how many ids there are at first. ``size``: how many are open at
    most; from then on a new id replaces one. ``new_share``: the share of new ids among all changes. ``emptied``: the
    fault that makes a field null, and that field.

    What sales depend on is the value of a row: of a product its price in cents, of a store 1 if it sells and 0 if not,
    of a customer 1. ``redone(rng, pools, row)`` makes a changed row of the same value, ``with_value(row, value)`` a row
    of another one.
    """

    entity: Entity
    new: Callable[[random.Random, Pools, int, int, int], Row]
    update: Callable[[random.Random, Pools, Row], Row]
    initial: int
    size: int
    new_share: float
    redone: Callable[[random.Random, Pools, Row], Row]
    emptied: tuple[Fault, str] | None = None
    value: Callable[[Row], int] = lambda row: 1
    with_value: Callable[[Row, int], Row] = lambda row, value: row


SPECS = {
    Entity.CUSTOMERS: DimensionSpec(
        Entity.CUSTOMERS,
        customers.new,
        customers.update,
        500,
        5000,
        0.20,
        customers.update,
        emptied=(Fault.NULL_EMAIL, "email"),
    ),
    Entity.PRODUCTS: DimensionSpec(
        Entity.PRODUCTS,
        products.new,
        products.update,
        200,
        2000,
        0.10,
        products.redone,
        value=products.price_cents,
        with_value=products.with_price,
    ),
    Entity.STORES: DimensionSpec(
        Entity.STORES,
        stores.new,
        stores.update,
        20,
        100,
        0.02,
        stores.redone,
        emptied=(Fault.NULL_MANAGER, "manager"),
        value=stores.selling,
        with_value=stores.with_selling,
    ),
}
