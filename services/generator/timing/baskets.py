"""Which sales are lines of one basket, and how many lines a basket has. Pure.

Lines are counted, not baskets: a schedule of 50 a second has 50 lines a second. The lines of a basket are published
together, at the moment of its last one::

    lines        0  1  2  3  4  5  6
    baskets      `--'  |  `-----'  |
    published       01 2        345 6
"""

from functools import lru_cache

import numpy as np

from services.generator.records import Ints

#: Of a hundred baskets, how many have one line, two lines … six lines: 2.02 on average.
_BASKETS = (46, 27, 14, 7, 4, 2)
MOST_LINES = len(_BASKETS)
#: Lines whose baskets are drawn together; no basket reaches beyond them.
_CHUNK = 4096


class Baskets:
    """The baskets of a run; the same seed makes the same ones."""

    def __init__(self, *seed: int) -> None:
        @lru_cache(maxsize=4)
        def ends(chunk: int) -> Ints:
            rng = np.random.default_rng([*seed, chunk])
            sizes = 1 + rng.choice(MOST_LINES, _CHUNK, p=np.array(_BASKETS) / sum(_BASKETS))
            last: Ints = np.minimum(np.cumsum(sizes), _CHUNK) - 1
            return chunk * _CHUNK + np.repeat(last, np.diff(last, prepend=-1))

        self._ends = ends

    def ends(self, start: int, stop: int) -> Ints:
        """For each line from ``start`` (inclusive, counted from 0) to ``stop`` (exclusive), the last of its basket."""
        chunks = range(start // _CHUNK, (stop - 1) // _CHUNK + 1)
        parts = [self._ends(c)[max(start - c * _CHUNK, 0) : stop - c * _CHUNK] for c in chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def first_lines(ends: Ints) -> Ints:
    """For each of some lines in a row, the number among them of the first line of its basket."""
    places = np.arange(len(ends))
    firsts: Ints = np.maximum.accumulate(np.where(np.diff(ends, prepend=-1) != 0, places, 0))
    return firsts
