"""The three dimensions side by side: what they start with, how they grow, and which fault empties which field."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from retail_stream.entities import Entity
from services.generator.publishing.faults import Fault
from services.generator.publishing.records import Row
from services.generator.retailer import customers, products, stores
from services.generator.retailer.pools import Pools


@dataclass(frozen=True)
class Kind:
    """One dimension.

    ``new(rng, pools, id, at_us, age_us)`` and ``update(rng, pools, row)`` make rows without ``last_update_time``
    or leave it as it was. ``initial``: how many there are at first; ``new_share``: of all changes, the share of new
    ids. ``emptied``: the fault that makes a field null, and the field.
    """

    entity: Entity
    new: Callable[[random.Random, Pools, int, int, int], Row]
    update: Callable[[random.Random, Pools, Row], Row]
    initial: int
    new_share: float
    emptied: tuple[Fault, str] | None = None
    price_cents: Callable[[Row], int] = lambda row: 0


KINDS = {
    Entity.CUSTOMERS: Kind(
        Entity.CUSTOMERS, customers.new, customers.update, 500, 0.20, emptied=(Fault.NULL_EMAIL, "email")
    ),
    Entity.PRODUCTS: Kind(Entity.PRODUCTS, products.new, products.update, 200, 0.10, price_cents=products.price_cents),
    Entity.STORES: Kind(Entity.STORES, stores.new, stores.update, 20, 0.02, emptied=(Fault.NULL_MANAGER, "manager")),
}
