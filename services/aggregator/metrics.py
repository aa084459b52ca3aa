"""What the aggregator counts. Names are part of the dashboards; add, do not rename."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from services.aggregator.ownership import Owned
from services.aggregator.step import LATE as TOO_LATE
from services.aggregator.step import Step
from services.aggregator.windows import SECOND

SALES = Counter("aggregator_sales_total", "Sales counted in windows and facts")
DUPLICATES = Counter("aggregator_duplicates_total", "Sales dropped: their source had published them before")
CONFLICTS = Counter("aggregator_conflicting_ids_total", "Sales whose transaction_id came with another time or store")
LATE = Counter("aggregator_late_total", "Sales too late for at least one of their windows")
RESULTS = Counter("aggregator_results_total", "Results of windows fired, revised or made final")
PUBLISHED = Counter("aggregator_published_total", "Records published from the outbox")
FENCED = Counter("aggregator_fenced_total", "Times that another worker had taken a partition over")
STEP = Histogram(
    "aggregator_step_seconds",
    "One step, transaction included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
WATERMARK = Gauge("aggregator_watermark_seconds", "The stream's watermark, in seconds since 1970")
HELD = Gauge("aggregator_held_identities", "Identities of sales held, of this worker's partitions")


def count(step: Step, results: int, owned: Iterable[Owned]) -> None:
    """Count a committed step."""
    SALES.inc(step.sales.height)
    DUPLICATES.inc(step.duplicates)
    CONFLICTS.inc(step.conflicts)
    LATE.inc(int(step.sales[TOO_LATE].sum()) if step.sales.height else 0)
    RESULTS.inc(results)
    if step.stream.watermark is not None:
        WATERMARK.set(step.stream.watermark / SECOND)
    HELD.set(sum(chunk.rows.height for o in owned for chunk in o.held))
