"""Settings of the cleaner."""

from typing import Annotated

from pydantic import Field

from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import Connections


class CleanerSettings(Connections):
    """``dlq_max_ratio``: stop when more than this share of the last 10,000 records of an entity was rejected."""

    dlq_max_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1")] = 0.5
    metrics_port: MetricsPort = 9102
