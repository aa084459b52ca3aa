"""Settings of the generator."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AwareDatetime, Field

from retail_stream.errors import SettingsError
from retail_stream.metrics import MetricsPort
from retail_stream.settings import Connections
from services.generator.faults import Fault, Probabilities

_RATE = "a number from 0 (as fast as possible) to 1000000"
Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False, description=_RATE)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="a probability from 0 to 1")]

#: Spacing of simulated time where the rate is 0.
SALES_PER_S, CHANGES_PER_S = 50.0, 5.0
_FAULT = "generator_fault_"


class GeneratorSettings(Connections):
    """``generator_fault_<name>``: the probability of a fault, per record that can have it."""

    generator_sales_per_s: Rate = SALES_PER_S
    generator_changes_per_s: Rate = CHANGES_PER_S
    generator_max_sales: Annotated[
        int | None, Field(ge=1, description="a whole number from 1; unset means no limit")
    ] = None
    generator_seed: Annotated[
        int | None, Field(ge=0, lt=2**63, description="a whole number from 0; unset means a random one")
    ] = None
    generator_start_time: Annotated[
        AwareDatetime | None, Field(description="an ISO 8601 time with its zone, such as 2026-03-01T08:00:00Z")
    ] = None
    latency_max_s: Annotated[
        float, Field(ge=0, le=86_400, allow_inf_nan=False, description="seconds, from 0 to 86400")
    ] = 30.0
    generator_fault_return: Probability = 0.05
    generator_fault_negative_discount: Probability = 0.01
    generator_fault_late_event: Probability = 0.10
    generator_fault_duplicate: Probability = 0.005
    generator_fault_null_email: Probability = 0.03
    generator_fault_null_manager: Probability = 0.03
    generator_fault_out_of_order_update: Probability = 0.05
    generator_fault_same_time_update: Probability = 0.01
    generator_fault_no_change_update: Probability = 0.02
    generator_fault_tombstone: Probability = 0.005
    generator_fault_corrupt_bytes: Probability = 0.001
    generator_fault_unknown_schema_id: Probability = 0.001
    generator_fault_future_event_time: Probability = 0.001
    metrics_port: MetricsPort = 9101

    @property
    def faults(self) -> Probabilities:
        """The probability of each fault."""
        return {f: getattr(self, f"{_FAULT}{f}") for f in Fault}

    @property
    def simulated(self) -> bool:
        """Whether time is simulated. With a seed as well, the records are the same from run to run."""
        return self.generator_start_time is not None


def check_names(variables: Iterable[str]) -> None:
    """Refuse a probability of a fault that there is not: it would be ignored without a word.

    Raises:
        SettingsError: names the variable and what is allowed.
    """
    known = {f"{_FAULT}{f}".upper() for f in Fault}
    for name in variables:
        if name.upper().startswith(_FAULT.upper()) and name.upper() not in known:
            raise SettingsError(f"{name} is no fault; allowed: {', '.join(sorted(known))}.")
