"""The metrics of the aggregator. Dashboards use their names: add metrics, do not rename them."""

import time
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from retail_stream.service.metrics import Gauges
from services.aggregator.batch import Applied
from services.aggregator.lifecycle import Outcome
from services.aggregator.step import LATE as TOO_LATE
from services.aggregator.totals import Grouping
from services.aggregator.watermark import Stream, Watermark
from services.aggregator.windows import SECOND

SALES = Counter("aggregator_sales_total", "Sales counted in windows and facts")
DUPLICATES = Counter("aggregator_duplicates_total", "Sales dropped: their source had published them before")
CONFLICTS = Counter("aggregator_conflicting_ids_total", "Sales whose transaction_id came with another time or store")
LATE = Counter("aggregator_late_total", "Sales too late for at least one of their windows")
FACTS = Counter("aggregator_facts_total", "Sales written to fact_sales")
RESULTS = Counter("aggregator_results_total", "Results of windows fired, revised or made final")
WINDOWS = Counter("aggregator_windows_total", "Results of windows, by what they say", ["kind", "outcome"])
PUBLISHED = Counter("aggregator_published_total", "Records published from the outbox")
FENCED = Counter("aggregator_fenced_total", "Times that another worker had taken a partition over")
STEP = Histogram(
    "aggregator_step_seconds",
    "One step, transaction included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
WATERMARK = Gauges("aggregator_watermark_seconds", "The stream's watermark, in seconds since 1970")
WATERMARK_LAG = Gauges("aggregator_watermark_lag_seconds", "How far the stream's watermark is behind the clock")
PARTITION_WATERMARK = Gauges(
    "aggregator_partition_watermark_seconds",
    "Watermark of each partition of this worker, in seconds since 1970",
    "partition",
)
LAG = Gauges(
    "aggregator_lag_records",
    "Offsets from the stored position to the partition's end, as of its last fetch",
    "topic",
    "partition",
)
HELD = Gauge("aggregator_held_identities", "Identities of sales held, of this worker's partitions")
OUTBOX = Gauges("aggregator_outbox_records", "Results that wait in the outbox, as the worker that publishes it counts")
OLDEST = Gauges("aggregator_outbox_oldest_seconds", "How long the oldest of them has waited")
LEADS = Gauge("aggregator_outbox_leads", "1 while this worker publishes the outbox: one of all replicas does")


def begin(groupings: Iterable[Grouping]) -> None:
    """Show the counters of results of these groupings: one that appears with its first event has no rate for it."""
    for g in groupings:
        for outcome in Outcome:
            if g.is_session or outcome is not Outcome.MERGED:
                WINDOWS.labels(g.name, outcome)


def count(applied: Applied) -> None:
    """Count a committed batch."""
    step = applied.step
    SALES.inc(step.sales.height)
    DUPLICATES.inc(step.duplicates)
    CONFLICTS.inc(step.conflicts)
    LATE.inc(int(step.sales[TOO_LATE].sum()) if step.sales.height else 0)
    FACTS.inc(applied.facts)
    for name, outcomes in applied.results.items():
        for outcome, number in outcomes.items():
            RESULTS.inc(number)
            WINDOWS.labels(name, outcome).inc(number)
    HELD.set(sum(chunk.size for o in applied.owned.values() for chunk in o.held))
    _show(step.stream, step.watermarks)


def forget() -> None:
    """Drop the gauges of our partitions and of the stream: after a rebalance they are not updated any more."""
    HELD.set(0)
    _show(Stream(), {})


def _show(stream: Stream, watermarks: Mapping[int, Watermark]) -> None:
    at = None if stream.watermark is None else stream.watermark / SECOND
    marks: dict[tuple[str, ...], float] = {
        (str(p),): mark / SECOND for p, mark in watermarks.items() if mark is not None
    }
    WATERMARK.read = lambda: {} if at is None else {(): at}
    WATERMARK_LAG.read = lambda: {} if at is None else {(): time.time() - at}
    PARTITION_WATERMARK.read = lambda: marks
