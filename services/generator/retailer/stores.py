"""Stores: new rows and changed rows. Pure; the stream sets ``last_update_time``."""

import random

from services.generator.records import Row
from services.generator.retailer.apparel import STORE_STATUSES
from services.generator.retailer.pools import Pools
from services.generator.timing.schedule import SECOND_US

_DAY_US = 86_400 * SECOND_US
_PLACES = ("High Street", "Central", "Riverside", "Station", "Outlet", "Market Square", "West End", "Arcade")


def new(rng: random.Random, pools: Pools, number: int, at_us: int, age_us: int) -> Row:
    """A store that opened ``age_us`` before ``at_us``."""
    pool = pools.locale(rng)
    return {
        "store_id": number,
        "name": f"{rng.choice(pool.cities)} {rng.choice(_PLACES)}",
        "address": rng.choice(pool.addresses),
        "manager": pools.any_name(rng),
        "open_date": (at_us - age_us) // _DAY_US * _DAY_US,
        "status": "open",
        "phone_number": rng.choice(pool.phones),
    }


def update(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The store with another status, manager or telephone; never equal to ``row``."""
    what = rng.random()
    changed = {**row, "manager": row["manager"] or pools.any_name(rng)}
    if what < 0.5:
        changed["status"] = rng.choice([s for s in STORE_STATUSES if s != row["status"]])
    elif what < 0.85:
        changed["manager"] = pools.any_name(rng)
    else:
        changed["phone_number"] = rng.choice(pools.locale(rng).phones)
    if changed == row:
        changed["status"] = next(s for s in STORE_STATUSES if s != row["status"])
    return changed
