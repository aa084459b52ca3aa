"""When people buy: most in the evening and at weekends, least at night. Pure.

History that is written faster than real time follows the hours of a week (UTC). A week keeps the number of records of
a steady rate: moments move within their week only. They are microseconds since 1970-01-01 UTC::

    steady   |  |  |  |  |  |  |  |  |        moved     |     |  | | | | ||||||   |
             0h                     24h                 0h       9h     18h    24h
"""

import numpy as np

from services.generator.records import Column, Ints

_HOUR_US = 3_600_000_000
_WEEK_US = 168 * _HOUR_US
#: Relative sales by hour of the day: online sales at night, stores from nine, most after work.
_DAY = (2, 1, 1, 1, 1, 2, 4, 8, 12, 30, 40, 45, 60, 55, 45, 50, 65, 90, 100, 85, 50, 25, 12, 5)
#: Relative sales by day of the week, from Thursday on: 1970-01-01 was one.
_DAYS = (1.0, 1.3, 1.8, 0.9, 0.7, 0.8, 0.9)
_WEIGHTS = np.outer(_DAYS, _DAY).ravel()
_GRID = np.arange(169) * _HOUR_US
_STEADY = np.concatenate([[0.0], np.cumsum(_WEIGHTS)]) / _WEIGHTS.sum() * _WEEK_US


def busy(steady_us: Ints) -> Ints:
    """Move moments of a steady rate into busy and quiet hours. Ascending moments stay ascending."""
    return _within_weeks(steady_us, _STEADY, _GRID)


def steady(busy_us: Ints) -> Ints:
    """The inverse of :func:`busy`, to about a microsecond."""
    return _within_weeks(busy_us, _GRID, _STEADY)


def _within_weeks(at_us: Ints, given: Column, wanted: Column) -> Ints:
    weeks, within = np.divmod(at_us, _WEEK_US)
    moved: Ints = weeks * _WEEK_US + np.interp(within, given, wanted).astype(np.int64)
    return moved
