"""What the merger counts."""

from prometheus_client import Counter, Histogram

from services.scd_merger.dimensions import Dimension
from services.scd_merger.merge import Plan

CHANGES = Counter("scd_merger_changes", "Changes merged, repeats left out", ["entity"])
VERSIONS = Counter("scd_merger_versions", "Versions written", ["entity", "outcome"])
BATCH_SECONDS = Histogram("scd_merger_batch_seconds", "From a batch's arrival to its commit in Postgres")
FENCED = Counter("scd_merger_fenced", "Batches rolled back because a partition had another owner")


def count(dimension: Dimension, changes: int, plan: Plan) -> None:
    """Count a plan that is committed, and the number of changes that it came from."""
    CHANGES.labels(dimension.entity).inc(changes)
    outcomes = {
        "opened": plan.opened.height,
        "retimed": plan.shrunk.height + plan.extended.height,
        "rewritten": plan.rewritten.height,
        "vanished": plan.vanished.height,
    }
    for outcome, versions in outcomes.items():
        VERSIONS.labels(dimension.entity, outcome).inc(versions)
