"""Which clock each thread follows: the wall clock or a simulated one.

Simulated time starts at a given moment and runs at the pace of the wall clock. Where a rate is 0 it runs as fast as
records are made, until it reaches the present: Kafka rejects records from the future. The dimensions then stay a
little ahead of the sales, which wait for them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retail_stream.entities import Entity
from services.generator.timing.baskets import Baskets
from services.generator.timing.schedule import PATIENCE_US, SECOND_US, AsFastAsPossible, Schedule, Steady
from services.generator.timing.traffic import Traffic

Clock = Callable[[], int]

_AHEAD_US = 300 * SECOND_US
#: Sales begin this long after the dimensions, see retailer/supply.py.
_SALES_AFTER_US = SECOND_US
_NEVER = 2**62


@dataclass
class Progress:
    """How far the sales are: every sale before ``sales_us`` has been made."""

    sales_us: int


@dataclass(frozen=True)
class Timeline:
    """Clocks and schedules of a run that starts at ``start_us``.

    ``until_us``: the last moment of the dimensions, inclusive. ``behind``: whether simulated time lags behind the
    present, so that records should be published at once. ``counted_after_us``: how long after a sale its products'
    stock is counted without it, see retailer/supply.py.
    """

    start_us: int
    sales_clock: Clock
    changes_clock: Clock
    sales: Schedule
    changes: Callable[[Entity], Schedule]
    until_us: int = _NEVER
    behind: Callable[[], bool] = lambda: False
    counted_after_us: int = 5 * SECOND_US


def wall() -> int:
    """The present, in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def live(sales_per_s: float, changes_per_s: float, traffic: Mapping[Entity, Traffic], baskets: Baskets) -> Timeline:
    """A timeline on the wall clock. A rate of 0 is as fast as possible, without bursts and silences."""
    start = wall()
    return Timeline(
        start,
        wall,
        wall,
        Steady(start + _SALES_AFTER_US, sales_per_s, True, traffic[Entity.SALES], baskets=baskets)
        if sales_per_s
        else AsFastAsPossible(baskets),
        lambda e: Steady(start, changes_per_s, True, traffic[e]) if changes_per_s else AsFastAsPossible(),
    )


def simulated(
    start_us: int,
    sales_per_s: float,
    changes_per_s: float,
    paced: bool,
    max_sales: int | None,
    progress: Progress,
    traffic: Mapping[Entity, Traffic],
    baskets: Baskets,
    with_hours: bool = False,
) -> Timeline:
    """A timeline of simulated time from ``start_us``. The dimensions stop at the time of the last sale.

    ``paced``: time runs no faster than the wall clock. ``with_hours``: with busy and quiet hours, see hours.py.
    """
    began = wall()
    sales = Steady(start_us + _SALES_AFTER_US, sales_per_s, False, traffic[Entity.SALES], with_hours, baskets)
    progress.sales_us = start_us

    def paced_clock() -> int:
        return start_us + wall() - began

    return Timeline(
        start_us,
        paced_clock if paced else wall,
        paced_clock if paced else lambda: min(wall(), progress.sales_us + _AHEAD_US),
        sales,
        lambda entity: Steady(start_us, changes_per_s, False, traffic[entity], with_hours),
        sales.slot(max_sales - 1) if max_sales else _NEVER,
        behind=lambda: not paced and progress.sales_us < wall() - PATIENCE_US,
        # The dimensions may be ahead of the sales by that much.
        counted_after_us=5 * SECOND_US if paced else _AHEAD_US,
    )
