"""Names, addresses and telephone numbers, made by Faker once and combined afterwards.

Faker makes about 20,000 names a second; a choice from a pool is far cheaper.
"""

import random
from dataclasses import dataclass

from faker import Faker

#: Locale → its share of people, in percent.
LOCALES = {"en_US": 70, "en_GB": 15, "de_DE": 8, "fr_FR": 7}
_SIZE = 800


@dataclass(frozen=True)
class Pool:
    """Parts of rows, in one locale."""

    women: tuple[str, ...]
    men: tuple[str, ...]
    surnames: tuple[str, ...]
    addresses: tuple[str, ...]
    phones: tuple[str, ...]
    cities: tuple[str, ...]


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

    def some(make: str) -> tuple[str, ...]:
        return tuple(str(getattr(fake, make)()).replace("\n", ", ") for _ in range(size))

    return Pool(
        women=some("first_name_female"),
        men=some("first_name_male"),
        surnames=some("last_name"),
        addresses=some("address"),
        phones=some("phone_number"),
        cities=some("city"),
    )
