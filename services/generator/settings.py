"""Settings of the generator."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from retail_stream.errors import SettingsError
from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import Connections
from services.generator.publishing.faults import PROFILES, Fault, Probabilities, Profile
from services.generator.timing.latency import Distribution

#: One record in a day or so: less would put the next one beyond every calendar.
_SLOWEST = 0.00001


def _seldom(rate: float) -> float:
    if 0 < rate < _SLOWEST:
        raise ValueError(f"is neither 0 nor at least {_SLOWEST:.5f}")
    return rate


_RATE = f"0 (as fast as possible), or a number from {_SLOWEST:.5f} to 1000000"
Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False, description=_RATE), AfterValidator(_seldom)]
# Kafka takes no record from before 1970, and what a sale refers to is some years older than the sale.
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
Moment = Annotated[
    AwareDatetime | None,
    Field(ge=_EARLIEST, description="an ISO 8601 time with its zone from 1980 on, such as 2026-03-01T08:00:00Z"),
]
Probability = Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False, description="a probability from 0 to 1")]

#: Spacing of simulated time where the rate is 0.
SALES_PER_S, CHANGES_PER_S = 50.0, 5.0
_FAULT = "generator_fault_"


class GeneratorSettings(Connections):
    """``generator_fault_<name>``: the probability of a fault, per record that can have it; None: the profile's."""

    generator_sales_per_s: Rate = SALES_PER_S
    generator_changes_per_s: Rate = CHANGES_PER_S
    generator_max_sales: Annotated[
        int | None, Field(ge=1, le=10**12, description="a whole number from 1 to 10^12; unset means no limit")
    ] = None
    generator_seed: Annotated[
        int | None, Field(ge=0, lt=2**63, description="a whole number from 0 to 2^63 - 1; unset means a random one")
    ] = None
    generator_start_time: Moment = None
    generator_backfill_from: Moment = None
    generator_evolve_after_s: Annotated[
        float | None,
        Field(ge=0, le=10**9, allow_inf_nan=False, description="seconds from 0 to 10^9; unset means never"),
    ] = None
    latency_max_s: Annotated[
        float, Field(ge=0, le=86_400, allow_inf_nan=False, description="seconds, from 0 to 86400")
    ] = 30.0
    latency_distribution: Annotated[Distribution, Field(description=f"one of {', '.join(Distribution)}")] = (
        Distribution.UNIFORM
    )
    generator_profile: Annotated[Profile, Field(description=f"one of {', '.join(Profile)}")] = Profile.BRIEF
    generator_fault_return: Probability = None
    generator_fault_negative_discount: Probability = None
    generator_fault_null_email: Probability = None
    generator_fault_null_manager: Probability = None
    generator_fault_late_event: Probability = None
    generator_fault_too_late_event: Probability = None
    generator_fault_out_of_order_update: Probability = None
    generator_fault_duplicate: Probability = None
    generator_fault_same_time_update: Probability = None
    generator_fault_no_change_update: Probability = None
    generator_fault_tombstone: Probability = None
    generator_fault_corrupt_bytes: Probability = None
    generator_fault_unknown_schema_id: Probability = None
    generator_fault_future_event_time: Probability = None
    generator_fault_burst: Probability = None
    generator_fault_silence: Probability = None
    metrics_port: MetricsPort = 9101

    @property
    def faults(self) -> Probabilities:
        """The probability of each fault: the profile's, or the one that is set."""
        own = {f: getattr(self, f"{_FAULT}{f}") for f in Fault}
        return {**PROFILES[self.generator_profile], **{f: p for f, p in own.items() if p is not None}}

    @property
    def simulated(self) -> bool:
        """Whether time is simulated. With a seed as well, the records are the same from run to run."""
        return self.history_from is not None

    @property
    def history_from(self) -> datetime | None:
        """When simulated time starts."""
        return self.generator_start_time or self.generator_backfill_from


def check_names(variables: Iterable[str]) -> None:
    """Refuse a probability of a fault that there is not: it would be ignored without a word.

    Raises:
        SettingsError: names the variable and what is allowed.
    """
    known = {f"{_FAULT}{f}".upper() for f in Fault}
    for name in variables:
        if name.upper().startswith(_FAULT.upper()) and name.upper() not in known:
            raise SettingsError(f"{name} is no fault; allowed: {', '.join(sorted(known))}.")
