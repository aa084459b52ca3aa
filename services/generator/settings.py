"""Settings of the generator."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from retail_stream.entities import Entity
from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import Connections
from services.generator.faults import PROFILES, Fault, Probabilities, Profile
from services.generator.retailer.catalogue import SPECS, DimensionSpec
from services.generator.timing.latency import Distribution

#: About one record in a day: a lower rate would put the next record beyond the range of times.
_SLOWEST = 0.00001


def _not_too_slow(rate: float) -> float:
    if 0 < rate < _SLOWEST:
        raise ValueError(f"is neither 0 nor at least {_SLOWEST:.5f}")
    return rate


_RATE = f"0 (as fast as possible), or a number from {_SLOWEST:.5f} to 1000000"
Rate = Annotated[
    float, Field(ge=0, le=1_000_000, allow_inf_nan=False, description=_RATE), AfterValidator(_not_too_slow)
]

# Kafka rejects records from before 1970, and a sale refers to rows that are some years older than it.
_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)


def _not_future(at: datetime | None) -> datetime | None:
    if at is not None and at > datetime.now(UTC):
        raise ValueError("lies in the future, and Kafka rejects records with later timestamps")
    return at


_TIME = "an ISO 8601 time with its zone, from 1980 up to now, for example 2026-03-01T08:00:00Z"
PastTime = Annotated[AwareDatetime | None, Field(ge=_EARLIEST, description=_TIME), AfterValidator(_not_future)]
Probability = Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False, description="a probability from 0 to 1")]

#: Rates of simulated time where the set rate is 0.
SALES_PER_S, CHANGES_PER_S = 50.0, 5.0
_FAULT = "generator_fault_"

Size = Annotated[int, Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="a share from 0 to 1")]


class GeneratorSettings(Connections):
    """The generator's variables. ``generator_fault_<name>`` None means the probability that the profile has.

    ``generator_<entity>``: how many ids are open at most. ``generator_new_<entity>``: the share of new ids in changes.
    """

    generator_sales_per_s: Rate = SALES_PER_S
    generator_changes_per_s: Rate = CHANGES_PER_S
    generator_max_sales: Annotated[
        int | None, Field(ge=1, le=10**12, description="a whole number from 1 to 10^12; unset means no limit")
    ] = None
    generator_seed: Annotated[
        int | None, Field(ge=0, lt=2**63, description="a whole number from 0 to 2^63 - 1; unset means a random one")
    ] = None
    generator_start_time: PastTime = None
    generator_backfill_from: PastTime = None
    generator_evolve_after_s: Annotated[
        float | None,
        Field(ge=0, le=10**9, allow_inf_nan=False, description="seconds from 0 to 10^9; unset means never"),
    ] = None
    generator_customers: Size = SPECS[Entity.CUSTOMERS].size
    generator_products: Size = SPECS[Entity.PRODUCTS].size
    generator_stores: Size = SPECS[Entity.STORES].size
    generator_new_customers: Share = SPECS[Entity.CUSTOMERS].new_share
    generator_new_products: Share = SPECS[Entity.PRODUCTS].new_share
    generator_new_stores: Share = SPECS[Entity.STORES].new_share
    latency_max_s: Annotated[
        float, Field(ge=0, le=86_400, allow_inf_nan=False, description="seconds from 0 to 86400")
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

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.generator_start_time is not None and self.generator_backfill_from is not None:
            raise ValueError("GENERATOR_START_TIME and GENERATOR_BACKFILL_FROM are both set; set only one of them")
        # A misspelt fault would be ignored otherwise, as any unknown variable is.
        known = {f"{_FAULT}{f}".upper() for f in Fault}
        for name in os.environ:
            if name.upper().startswith(_FAULT.upper()) and name.upper() not in known:
                raise ValueError(f"{name} does not name a fault; allowed: {', '.join(sorted(known))}")
        return self

    @property
    def faults(self) -> Probabilities:
        """The probability of each fault: the one that is set, else the profile's."""
        own = {f: getattr(self, f"{_FAULT}{f}") for f in Fault}
        return {**PROFILES[self.generator_profile], **{f: p for f, p in own.items() if p is not None}}

    def spec(self, entity: Entity) -> DimensionSpec:
        """The catalogue's dimension, with the size and share that are set."""
        size, share = (getattr(self, f"generator_{name}{entity}") for name in ("", "new_"))
        return replace(SPECS[entity], size=size, new_share=share)

    @property
    def simulated(self) -> bool:
        """Whether time is simulated. With a seed as well, the records are the same from run to run."""
        return self.history_from_us is not None

    @property
    def history_from_us(self) -> int | None:
        """When simulated time starts, in microseconds since 1970-01-01 UTC; None where time is not simulated."""
        start = self.generator_start_time or self.generator_backfill_from
        return None if start is None else (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
