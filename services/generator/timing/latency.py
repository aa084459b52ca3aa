"""The latency of sales: the time from the event to its publication. Pure: numbers in [0, 1) become microseconds."""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from services.generator.faults import Fault, Probabilities
from services.generator.records import Flags, Floats, Ints

#: A sale without a fault of lateness is published within this time, mostly much sooner.
_PROMPT_US = 2_000_000
#: How long after LATENCY_MAX_S the fault `too_late_event` begins, and over how long it spreads.
_TOO_LATE_US, _TOO_LATE_SPREAD_US = 300_000_000, 1_500_000_000
#: Exponential: the mean is a quarter of the maximum. Pareto: half of all are within 3 % of it; the tail is long.
_MEANS = 4.0
_TAIL, _REACH = 1.5, 20.0


class Distribution(StrEnum):
    """``LATENCY_DISTRIBUTION``; each distribution is cut off at LATENCY_MAX_S."""

    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"
    PARETO = "pareto"


class Latency:
    """The latency of sales, at most ``max_us`` except for the fault `too_late_event`."""

    def __init__(self, max_us: int, distribution: Distribution = Distribution.UNIFORM) -> None:
        self._max = max_us
        self._prompt = min(_PROMPT_US, max_us)
        self._distribution = distribution

    @property
    def longest_us(self) -> int:
        """No latency is longer."""
        return self._max + _TOO_LATE_US + _TOO_LATE_SPREAD_US

    def delays(self, u: Mapping[str, Floats], faults: Probabilities) -> Ints:
        """The latency of each row, in microseconds.

        ``u``: decision → random numbers. `tardy` and `too_late` decide on the faults, `lateness` on the latency.
        """
        tardy = self._prompt + 1 + self._shares(u["lateness"]) * (self._max - self._prompt - 1)
        is_tardy = (u["tardy"] < faults[Fault.LATE_EVENT]) & (self._max > self._prompt)
        too_late = self._max + _TOO_LATE_US + u["lateness"] * _TOO_LATE_SPREAD_US
        is_too_late = u["too_late"] < faults[Fault.TOO_LATE_EVENT]
        delays = np.where(is_too_late, too_late, np.where(is_tardy, tardy, u["lateness"] ** 4 * self._prompt))
        return delays.astype(np.int64)

    def is_late(self, delays: Ints) -> Flags:
        """Whether a latency has the fault `late_event`."""
        return (delays > _PROMPT_US) & (delays <= self._max)

    def is_too_late(self, delays: Ints) -> Flags:
        """Whether a latency has the fault `too_late_event`."""
        return delays > max(_PROMPT_US, self._max)

    def _shares(self, u: Floats) -> Floats:
        """Values in [0, 1) of the distribution's inverse cumulative function at ``u``."""
        match self._distribution:
            case Distribution.EXPONENTIAL:
                values: Floats = -np.log1p(-u * -np.expm1(-_MEANS)) / _MEANS
            case Distribution.PARETO:
                values = ((1 - u * (1 - (1 + _REACH) ** -_TAIL)) ** (-1 / _TAIL) - 1) / _REACH
            case Distribution.UNIFORM:
                values = u
        return values
