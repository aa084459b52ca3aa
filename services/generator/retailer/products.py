"""Products: new rows and changed rows. Pure; the stream sets ``last_update_time``."""

import random

from services.generator.records import Row
from services.generator.retailer.apparel import BRANDS, CARE, CATEGORIES, COLORS
from services.generator.retailer.pools import Pools


def new(rng: random.Random, pools: Pools, number: int, at_us: int, age_us: int) -> Row:
    """A product of a random category."""
    category = rng.choice(CATEGORIES)
    brand, garment, color = rng.choice(BRANDS), rng.choice(category.garments), rng.choice(COLORS)
    material = rng.choice(category.materials)
    return {
        "product_id": number,
        "name": f"{brand} {garment}",
        "category": category.name,
        "brand": brand,
        "price": rng.randrange(*category.prices) + rng.choice((0.0, 0.5, 0.95, 0.99)),
        "stock_quantity": rng.randrange(50, 500),
        "size": rng.choice(category.sizes),
        "color": color,
        "description": f"{garment} by {brand} in {color.lower()}, made of {material}.",
    }


def update(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The product with another price; never equal to ``row``."""
    cents = price_cents(row)
    step = max(1, cents * rng.randrange(1, 20) // 100)
    down = cents - step >= 500 and (cents + step > 100_000 or rng.random() < 0.5)
    return with_price(row, cents - step if down else cents + step)


def redone(rng: random.Random, pools: Pools, row: Row) -> Row:
    """The product with another description, and the same price and stock; never equal to ``row``."""
    plain = row["description"].split(" Care: ")[0]
    hints = [hint for hint in CARE if row["description"] != f"{plain} Care: {hint}."]
    return {**row, "description": f"{plain} Care: {rng.choice(hints)}."}


def price_cents(row: Row) -> int:
    """The price as a whole number of cents."""
    price: float = row["price"]
    return round(price * 100)


def with_price(row: Row, cents: int) -> Row:
    """The product at a price."""
    return {**row, "price": cents / 100}
