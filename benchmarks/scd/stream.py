"""Changes of products as an operational system would send them, and the one right history of each key.

Per key the times rise; about 8 % of the changes arrive late: behind changes of their key that are newer.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

#: Microseconds since 1970-01-01 UTC of the first moment, and how far apart the moments of the stream are.
START = 1_700_000_000_000_000
STEP = 1_000_000

#: product_id, last_update_time (microseconds), deleted, name, category, brand, price, stock_quantity, size, color,
#: description
Change = tuple[int, int, bool, str, str, str, float, int, str, str, str]
#: valid_from, valid_to (microseconds; None: open), price in cents, stock_quantity
Version = tuple[int, int | None, int, int]

COLUMNS = ("product_id", "last_update_time", "deleted", "name", "category", "brand", "price", "stock_quantity", "size",
           "color", "description")  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """``changes`` in order of arrival; ``late``: the share of them that came behind a newer one of their key."""

    changes: Sequence[Change]
    late: float

    def batches(self, count: int) -> Iterator[Sequence[Change]]:
        """The changes in ``count`` batches of about one size."""
        size = -(-len(self.changes) // count)
        return (self.changes[i : i + size] for i in range(0, len(self.changes), size))


def stream(count: int, keys: int, seed: int = 1, late: float = 0.15, deletes: float = 0.0) -> Stream:
    """``count`` changes over ``keys`` keys.

    ``late``: the share of changes that are sent again to a later place, up to half the stream behind their
    own. ``deletes``: the share that are deletes (no peer takes them in the same way, so there are none by default).
    """
    rng = random.Random(seed)
    changes = []
    for i in range(count):
        key = i + 1 if i < keys else rng.randint(1, keys)
        stock, price = rng.randrange(500), rng.randrange(500, 20_000) / 100
        changes.append((key, START + i * STEP, i >= keys and rng.random() < deletes, *_texts(key, price, stock)))
    # A late one arrives as if it had happened later; the times stay.
    arrival = [i + (rng.random() * count / 2 if rng.random() < late else 0) for i in range(count)]
    ordered = [changes[i] for i in sorted(range(count), key=arrival.__getitem__)]
    return Stream(ordered, _late(ordered))


def _texts(key: int, price: float, stock: int) -> tuple[str, str, str, float, int, str, str, str]:
    category = ("Tops", "Dresses", "Outerwear", "Shoes", "Denim")[key % 5]
    return (f"{category} no. {key}", category, f"Brand {key % 40}", price, stock, "SML"[key % 3], "navy",
            f"Item {key} of the collection, {category.lower()}, machine wash cold")  # fmt: skip


def _late(changes: Sequence[Change]) -> float:
    newest: dict[int, int] = {}
    late = 0
    for key, time, *_ in changes:
        late += time < newest.get(key, 0)
        newest[key] = max(time, newest.get(key, 0))
    return late / len(changes)


def histories(changes: Sequence[Change]) -> dict[int, list[Version]]:
    """What each key's versions must be, from all changes sorted first."""
    right: dict[int, list[Version]] = {}
    for key, own in groupby(sorted(changes, key=itemgetter(0, 1)), key=itemgetter(0)):
        runs = [next(run) for _, run in groupby(own, key=lambda c: c[2:])]
        ends = [after[1] for _, after in pairwise(runs)]
        right[key] = [
            (start[1], end, round(start[6] * 100), start[7])
            for start, end in zip(runs, [*ends, None], strict=True)
            if not start[2]
        ]
    return right


def share_right(found: dict[int, list[Version]], changes: Sequence[Change]) -> float:
    """Which part of the keys has exactly the right history."""
    right = histories(changes)
    return sum(found.get(key) == versions for key, versions in right.items()) / len(right)
