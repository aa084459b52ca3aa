"""The metrics of the merger. Dashboards use their names: add metrics, do not rename them."""

from prometheus_client import Counter, Histogram

from retail_stream.entities import DIMENSIONS
from retail_stream.service.metrics import Gauges
from services.scd_merger.dimensions import Dimension
from services.scd_merger.merge import Plan

CHANGES = Counter("scd_merger_changes", "Changes merged, repeats left out", ["entity"])
VERSIONS = Counter("scd_merger_versions", "Versions written, and those that vanished", ["entity", "outcome"])
BATCH_SECONDS = Histogram("scd_merger_batch_seconds", "From a batch's arrival to its commit in Postgres")
FENCED = Counter("scd_merger_fenced", "Batches rolled back because a partition had another owner")
LAG = Gauges(
    "scd_merger_lag_records",
    "Offsets from the stored position to the partition's end, as of its last fetch",
    "topic",
    "partition",
)

_OUTCOMES = ("opened", "retimed", "rewritten", "vanished")
# A counter that appears with its first event has no rate for that event.
for _entity in DIMENSIONS:
    CHANGES.labels(_entity)
    for _outcome in _OUTCOMES:
        VERSIONS.labels(_entity, _outcome)


def count(dimension: Dimension, changes: int, plan: Plan) -> None:
    """Count a committed plan and the number of changes that it came from."""
    CHANGES.labels(dimension.entity).inc(changes)
    numbers = (
        plan.opened.height,
        plan.shrunk.height + plan.extended.height,
        plan.rewritten.height,
        plan.vanished.height,
    )
    for outcome, versions in zip(_OUTCOMES, numbers, strict=True):
        VERSIONS.labels(dimension.entity, outcome).inc(versions)
