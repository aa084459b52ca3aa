"""Which clock each thread follows: the wall's, or a simulated one.

Simulated time starts at a given moment and runs at the wall's pace; where a rate is 0 it runs as fast as records can
be made until it has caught up with the wall's, since Kafka takes no record from the future. The dimensions then stay
a little ahead of the sales, which wait for them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retail_stream.entities import Entity
from services.generator.timing.schedule import PATIENCE_US, SECOND_US, AsFastAsPossible, Schedule, Steady
from services.generator.timing.traffic import Traffic

Clock = Callable[[], int]

_AHEAD_US = 300 * SECOND_US
#: Sales begin when the dimensions' first records are this old, see supply.py.
_SALES_AFTER_US = SECOND_US
_NEVER = 2**62


@dataclass
class Progress:
    """How far sales are; every sale before this time was made."""

    sales_us: int


@dataclass(frozen=True)
class Timeline:
    """Clocks and schedules of a run that starts at ``start_us``.

    ``until_us``: when dimensions stop, inclusive. ``behind``: whether time waits for the records now.
    """

    start_us: int
    sales_clock: Clock
    changes_clock: Clock
    sales: Schedule
    changes: Callable[[Entity], Schedule]
    until_us: int = _NEVER
    behind: Callable[[], bool] = lambda: False


def wall() -> int:
    """Now, in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def live(sales_per_s: float, changes_per_s: float, traffic: Mapping[Entity, Traffic]) -> Timeline:
    """The wall's time; a rate of 0 is as fast as possible, without bursts and silences."""
    start = wall()

    def changes(entity: Entity) -> Schedule:
        return Steady(start, changes_per_s, True, traffic[entity]) if changes_per_s else AsFastAsPossible()

    return Timeline(
        start,
        wall,
        wall,
        Steady(start + _SALES_AFTER_US, sales_per_s, True, traffic[Entity.SALES])
        if sales_per_s
        else AsFastAsPossible(),
        changes,
    )


def simulated(
    start_us: int,
    sales_per_s: float,
    changes_per_s: float,
    paced: bool,
    max_sales: int | None,
    progress: Progress,
    traffic: Mapping[Entity, Traffic],
    with_hours: bool = False,
) -> Timeline:
    """Time from ``start_us``. ``paced``: not faster than the wall's. The dimensions stop where the sales do.

    ``with_hours``: there are busy and quiet hours, see hours.py.
    """
    began = wall()
    sales = Steady(start_us + _SALES_AFTER_US, sales_per_s, False, traffic[Entity.SALES], with_hours)
    progress.sales_us = start_us

    def at_the_walls_pace() -> int:
        return start_us + wall() - began

    return Timeline(
        start_us,
        at_the_walls_pace if paced else wall,
        at_the_walls_pace if paced else lambda: min(wall(), progress.sales_us + _AHEAD_US),
        sales,
        lambda entity: Steady(start_us, changes_per_s, False, traffic[entity], with_hours),
        sales.slot(max_sales - 1) if max_sales else _NEVER,
        behind=lambda: not paced and progress.sales_us < wall() - PATIENCE_US,
    )
