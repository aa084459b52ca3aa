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
    fault that makes a field null, and that field. ``price_cents``: the price of a row; 0 for dimensions without one.
    """

    entity: Entity
    new: Callable[[random.Random, Pools, int, int, int], Row]
    update: Callable[[random.Random, Pools, Row], Row]
    initial: int
    size: int
    new_share: float
    emptied: tuple[Fault, str] | None = None
    price_cents: Callable[[Row], int] = lambda row: 0


SPECS = {
    Entity.CUSTOMERS: DimensionSpec(
        Entity.CUSTOMERS, customers.new, customers.update, 500, 5000, 0.20, emptied=(Fault.NULL_EMAIL, "email")
    ),
    Entity.PRODUCTS: DimensionSpec(
        Entity.PRODUCTS, products.new, products.update, 200, 2000, 0.10, price_cents=products.price_cents
    ),
    Entity.STORES: DimensionSpec(
        Entity.STORES, stores.new, stores.update, 20, 100, 0.02, emptied=(Fault.NULL_MANAGER, "manager")
    ),
}
