"""Whether a change costs more when its key has a long history: the merger's rate behind 10 and behind 1,000 versions.

First with as many rows in the table, over fewer keys; then with the same keys, so that the table is a hundred times as
large as well.  In every one 8 % of the changes are late, and reach back as far as half the history.
"""

import random
from collections.abc import Sequence

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import world
from benchmarks.scd.merging import Merging
from benchmarks.scd.stream import START, STEP, Change, stream
from retail_stream.warehouse import postgres

_CHANGES, _LATE, _ROUNDS = 100_000, 0.08, 2
_LONG, _SHORT, _SMALL = "1,000 versions per key", "10, as many rows", "10, the same keys"
#: Keys, and versions of each that are there before the measured changes come.
_HISTORIES: dict[str, tuple[int, int]] = {_LONG: (500, 1_000), _SHORT: (50_000, 10), _SMALL: (500, 10)}


def main() -> int:
    """Print the rates and their ratios; 0 whether or not the goal was reached, which is said."""
    best: dict[str, float] = {}
    with world() as w:
        merging = Merging(w, postgres.engine(w.connections.database_url))
        for _ in range(_ROUNDS):
            for name, (keys, versions) in _HISTORIES.items():
                there = keys * versions
                changes = stream(there + _CHANGES, keys, late=0).changes
                merging.rate(changes[:there])
                rate = merging.rate(_some_late(changes[there:], there), fresh=False)
                best[name] = max(rate, best.get(name, 0))
                print(f"{name:<26}{keys * versions:>9,} rows before{rate:>10,.0f} changes/s", flush=True)
    say_goal(f"rate: {_LONG} / {_SHORT}", best[_LONG] / best[_SHORT], ">=", 0.8)
    print(f"rate: {_LONG} / {_SMALL} (a table of a hundredth): {best[_LONG] / best[_SMALL]:.2f}")
    return 0


def _some_late(changes: Sequence[Change], there: int) -> list[Change]:
    """The changes, some of them moved to between the moments of the ``there`` that came before."""
    rng = random.Random(2)
    moved = []
    for key, time, *rest in changes:
        past = START + rng.randrange(there // 2, there) * STEP + rng.randrange(1, STEP)
        moved.append((key, past if rng.random() < _LATE else time, *rest))
    return moved  # type: ignore[return-value]
