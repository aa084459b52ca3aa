"""Names, addresses and telephone numbers, made by Faker once and combined afterwards.

Faker makes about 20,000 names a second; a choice from a pool is far cheaper. Every address has the form
``street, city, region postcode``, so that city and region can be read from its end::

    78128 Wood Street Apt. 704, Springfield, IL 62701
    5, avenue Samson, Briand, BRE 48802

The street may contain commas, the city contains none. The region is two or three capital letters: the state in the US,
and the letters of ISO 3166-2 elsewhere. No two countries share one.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from faker import Faker

#: Locale → its share of people, in percent.
LOCALES = {"en_US": 70, "en_GB": 15, "de_DE": 8, "fr_FR": 7}
_SIZE = 800
#: Locale → its regions; None: Faker's states.
_REGIONS: dict[str, tuple[str, ...] | None] = {
    "en_US": None,
    "en_GB": ("ENG", "SCT", "WLS", "NIR"),
    "de_DE": ("BW", "BY", "BE", "BB", "HB", "HH", "HE", "MV", "NI", "NW", "RP", "SL", "SN", "ST", "SH", "TH"),
    "fr_FR": ("ARA", "BFC", "BRE", "CVL", "GES", "HDF", "IDF", "NAQ", "NOR", "OCC", "PAC", "PDL"),
}
#: Addresses of one city, on average.
_ADDRESSES_PER_CITY = 20


@dataclass(frozen=True)
class Address:
    """An address as text, and the city that it names."""

    text: str
    city: str


@dataclass(frozen=True)
class Pool:
    """Parts of rows, in one locale."""

    women: tuple[str, ...]
    men: tuple[str, ...]
    surnames: tuple[str, ...]
    addresses: tuple[Address, ...]
    phones: tuple[str, ...]


class Pools:
    """A pool for each locale; the same seed makes the same pools."""

    def __init__(self, seed: int, size: int = _SIZE) -> None:
        """``size``: entries of each kind, over all locales, approximately."""
        self._pools = tuple(_pool(locale, seed, max(8, size * share // 25)) for locale, share in LOCALES.items())
        self._shares = tuple(LOCALES.values())

    def locale(self, rng: random.Random) -> Pool:
        """The pool of a random locale, by its share of people."""
        return rng.choices(self._pools, self._shares)[0]

    def any_name(self, rng: random.Random) -> str:
        """A full name."""
        pool = self.locale(rng)
        return f"{rng.choice(pool.women if rng.random() < 0.5 else pool.men)} {rng.choice(pool.surnames)}"


def _pool(locale: str, seed: int, size: int) -> Pool:
    fake = Faker(locale)
    fake.seed_instance(f"{seed}/{locale}")

    def some(make: Callable[[], object], count: int = size) -> tuple[str, ...]:
        return tuple(str(make()).replace("\n", ", ") for _ in range(count))

    def region() -> str:
        regions = _REGIONS[locale]
        if regions is None:
            return str(fake.state_abbr(include_territories=False, include_freely_associated_states=False))
        return str(fake.random_element(regions))

    cities = [(name.replace(",", ""), region()) for name in some(fake.city, max(3, size // _ADDRESSES_PER_CITY))]

    def address() -> Address:
        city, state = cities[int(fake.random.random() * len(cities))]
        postcode = fake.postcode() if _REGIONS[locale] else fake.postcode_in_state(state)
        (street,) = some(fake.street_address, 1)
        return Address(f"{street}, {city}, {state} {postcode}", city)

    return Pool(
        women=some(fake.first_name_female),
        men=some(fake.first_name_male),
        surnames=some(fake.last_name),
        addresses=tuple(address() for _ in range(size)),
        phones=some(fake.phone_number),
    )
