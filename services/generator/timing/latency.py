"""How long after it happened a sale is published. Pure: from numbers in [0, 1) to shares of the longest time."""

from enum import StrEnum

import numpy as np

from services.generator.retailer.arrays import Floats

#: Exponential: the mean is a quarter of the longest. Pareto: half of all within 3 % of it, a long tail.
_MEANS = 4.0
_TAIL, _REACH = 1.5, 20.0


class Distribution(StrEnum):
    """``LATENCY_DISTRIBUTION``; each is cut off at LATENCY_MAX_S."""

    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"
    PARETO = "pareto"


def shares(u: Floats, distribution: Distribution) -> Floats:
    """The inverse of the distribution's cumulative function, in [0, 1)."""
    match distribution:
        case Distribution.EXPONENTIAL:
            return -np.log1p(-u * -np.expm1(-_MEANS)) / _MEANS
        case Distribution.PARETO:
            return ((1 - u * (1 - (1 + _REACH) ** -_TAIL)) ** (-1 / _TAIL) - 1) / _REACH
        case _:
            return u
