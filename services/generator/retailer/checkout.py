"""What customers buy: the lines of baskets, each at the price and in the store that there were at its time. Pure."""

from collections.abc import Mapping

import numpy as np

from services.generator.records import Floats, Ints
from services.generator.retailer.assortment import MOST_PIECES
from services.generator.retailer.market import Market
from services.generator.retailer.partitions import StorePartitions
from services.generator.retailer.purchases import Purchases
from services.generator.timing.baskets import MOST_LINES
from services.generator.timing.schedule import Slots


def baskets(basket: Ints, products: int) -> Ints:
    """The baskets of slots, in each of which every line can have another one of so many products."""
    lines = np.arange(len(basket))
    return np.where(lines - basket < products, basket, lines) if products < MOST_LINES else basket


def purchases(
    u: Mapping[str, Floats], slots: Slots, basket: Ints, delays: Ints, market: Market, partitions: StorePartitions
) -> Purchases:
    """A purchase for each slot; the lines of a basket have one store, one customer and one time.

    ``u``: decision → random numbers, the same ones for all lines of a basket where they decide for it. ``basket``: the
    row of the first line of each line's basket. ``delays``: from the purchase to its publication, unless the store was
    closed then.
    """
    stores, products = market.stores, market.products
    store = stores.popular(u["store"])
    partitions.leave_silent(store, slots.quiet, u["store"], stores.ids[stores.offered])
    pieces = 1 + (u["quantity"] ** 4 * MOST_PIECES).astype(np.int64)
    places = products.choose(u["product"], u["other_product"], basket, pieces)
    event_us = (slots.at_us - delays)[basket]
    # After a restart, older prices are not known.
    if (event_us < products.since_us[places]).any():
        firsts = np.unique(basket)
        since = np.maximum.reduceat(products.since_us[places], firsts)
        event_us = np.maximum(event_us, since[np.searchsorted(firsts, basket)])
    event_us = np.minimum(stores.selling_from(store, event_us), slots.at_us)
    return Purchases(
        store=store,
        customer=market.customers.evenly(u["customer"]),
        product=products.ids[places],
        price_cents=products.prices(places, event_us),
        left=pieces,
        event_us=event_us,
    )
