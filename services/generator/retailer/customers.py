"""Customers: new rows and changed rows. Pure; the stream sets ``last_update_time``."""

import random
import re
import unicodedata

from services.generator.records import Row
from services.generator.retailer.pools import Pools
from services.generator.timing.schedule import SECOND_US

_DAY_US = 86_400 * SECOND_US
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com")


def new(rng: random.Random, pools: Pools, number: int, at_us: int, age_us: int) -> Row:
    """A customer who joined ``age_us`` before ``at_us``."""
    pool = pools.locale(rng)
    gender = rng.choices(("female", "male", "other"), (51, 47, 2))[0]
    first = rng.choice(pool.men if gender == "male" else pool.women)
    row = {
        "customer_id": number,
        "name": f"{first} {rng.choice(pool.surnames)}",
        "address": rng.choice(pool.addresses).text,
        "join_date": (at_us - age_us) // _DAY_US * _DAY_US,
        "loyalty_points": rng.randrange(0, 2000) if age_us else 0,
        "phone_number": rng.choice(pool.phones),
        "age": min(90, 18 + int(rng.gammavariate(3.0, 9.0))),
        "gender": gender,
    }
    return {**row, "email": email(row)}


def update(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The customer after a purchase, and sometimes a move, a new telephone or a wedding; never equal to ``row``."""
    what = rng.random()
    changed = {**row, "loyalty_points": (row["loyalty_points"] + rng.randrange(1, 200)) % 100_000}
    if what < 0.20:
        changed["address"] = rng.choice(pools.locale(rng).addresses).text
    elif what < 0.28:
        changed["phone_number"] = rng.choice(pools.locale(rng).phones)
    elif what < 0.30:
        changed["name"] = f"{row['name'].split(' ')[0]} {rng.choice(pools.locale(rng).surnames)}"
    return {**changed, "email": email(changed)}


def email(row: Row) -> str:
    """The customer's email address; it depends on name and id only."""
    ascii_name = unicodedata.normalize("NFKD", row["name"]).encode("ascii", "ignore").decode().lower()
    number = row["customer_id"]
    return f"{re.sub('[^a-z]+', '.', ascii_name).strip('.')}{number}@{_DOMAINS[number % len(_DOMAINS)]}"
