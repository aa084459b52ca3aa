"""Stores: new rows and changed rows. Pure; the stream sets ``last_update_time``."""

import random

from services.generator.records import Row
from services.generator.retailer.apparel import SELLING, STORE_STATUSES
from services.generator.retailer.pools import Pools
from services.generator.timing.schedule import SECOND_US

_DAY_US = 86_400 * SECOND_US
_PLACES = ("High Street", "Central", "Riverside", "Station", "Outlet", "Market Square", "West End", "Arcade")


def new(rng: random.Random, pools: Pools, number: int, at_us: int, age_us: int) -> Row:
    """A store that opened ``age_us`` before ``at_us``. It is named after its city."""
    pool = pools.locale(rng)
    address = rng.choice(pool.addresses)
    return {
        "store_id": number,
        "name": f"{address.city} {rng.choice(_PLACES)}",
        "address": address.text,
        "manager": pools.any_name(rng),
        "open_date": (at_us - age_us) // _DAY_US * _DAY_US,
        "status": "open",
        "phone_number": rng.choice(pool.phones),
    }


def update(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The store with another status, manager or telephone; never equal to ``row``."""
    changed = {**row, "manager": row["manager"] or pools.any_name(rng)}
    # A store that sells nothing opens again soon.
    if rng.random() < (0.25 if sells(row) else 0.75):
        others = {s: weight for s, weight in STORE_STATUSES.items() if s != row["status"]}
        changed["status"] = rng.choices([*others], [*others.values()])[0]
        return changed
    return redone(rng, pools, changed)


def redone(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The store with another manager or telephone and the same status; never equal to ``row``."""
    changed = dict(row)
    while changed == row:
        if rng.random() < 0.7:
            changed["manager"] = pools.any_name(rng)
        else:
            changed["phone_number"] = rng.choice(pools.locale(rng).phones)
    return changed


def sells(row: Row) -> bool:
    """Whether the store sells anything: closed stores and those in renovation do not."""
    return row["status"] in SELLING


def selling(row: Row) -> int:
    """1 if the store sells, else 0."""
    return int(sells(row))


def with_selling(row: Row, selling: int) -> Row:
    """The store with its status if that sells as much as asked for, 1 or 0; else open or closed."""
    return row if sells(row) == bool(selling) else {**row, "status": "open" if selling else "closed"}
