"""An apparel retailer's assortment, as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """A category of products; ``prices`` go from (inclusive) and to (exclusive), in whole currency units."""

    name: str
    garments: tuple[str, ...]
    sizes: tuple[str, ...]
    prices: tuple[int, int]
    materials: tuple[str, ...]


_LETTERS = ("XS", "S", "M", "L", "XL", "XXL")
_WAISTS = ("28", "30", "32", "34", "36", "38", "40")
_SHOES = ("36", "37", "38", "39", "40", "41", "42", "43", "44", "45")
_ONE = ("One Size",)

CATEGORIES = (
    Category("T-Shirts", ("Crew Tee", "V-Neck Tee", "Polo", "Henley"), _LETTERS, (9, 45), ("organic cotton", "jersey")),
    Category("Shirts", ("Oxford Shirt", "Linen Shirt", "Flannel Shirt"), _LETTERS, (29, 99), ("cotton", "linen")),
    Category("Knitwear", ("Jumper", "Cardigan", "Roll Neck"), _LETTERS, (39, 159), ("merino", "lambswool", "cashmere")),
    Category("Jeans", ("Slim Jeans", "Straight Jeans", "Wide Jeans"), _WAISTS, (49, 149), ("denim", "stretch denim")),
    Category("Trousers", ("Chinos", "Cargo Trousers", "Pleated Trousers"), _WAISTS, (39, 129), ("twill", "wool blend")),
    Category("Dresses", ("Wrap Dress", "Shirt Dress", "Maxi Dress"), _LETTERS[:5], (49, 199), ("viscose", "linen")),
    Category("Outerwear", ("Parka", "Rain Jacket", "Wool Coat"), _LETTERS, (89, 399), ("wool", "recycled nylon")),
    Category(
        "Sportswear", ("Leggings", "Running Shorts", "Hoodie"), _LETTERS, (25, 99), ("technical jersey", "fleece")
    ),
    Category("Shoes", ("Trainers", "Chelsea Boots", "Loafers"), _SHOES, (59, 249), ("leather", "suede", "canvas")),
    Category("Accessories", ("Belt", "Scarf", "Beanie", "Tote Bag"), _ONE, (12, 89), ("leather", "wool", "canvas")),
)

BRANDS = (
    "Northfield", "Alder & Ash", "Marlowe", "Kestrel", "Blue Harbour Row", "Tidewater", "Fjell", "Corso",
    "Old Mill Denim", "Linden", "Velo Athletic", "Hartwell", "Sable & Stone", "Pico",
)  # fmt: skip

COLORS = (
    "Black", "White", "Navy", "Charcoal", "Grey Melange", "Beige", "Olive", "Burgundy", "Rust", "Sky Blue", "Forest",
    "Ecru",
)  # fmt: skip

#: What a description may add.
CARE = ("machine wash cold", "hand wash only", "dry clean", "wipe clean", "do not tumble dry")

#: Status of a store → how often a change leads to it, compared with the others.
STORE_STATUSES = {"open": 8, "limited hours": 2, "renovation": 1, "closed": 1}
#: The statuses in which a store sells.
SELLING = ("open", "limited hours")

#: Payment method → its share of sales, in percent.
PAYMENT_METHODS = {"credit_card": 42, "debit_card": 26, "mobile_wallet": 17, "cash": 11, "gift_card": 4}

TAX_PERCENT = 8
