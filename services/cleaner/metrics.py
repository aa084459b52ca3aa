"""The metrics of the cleaner."""

import time
from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from retail_stream.entities import Entity
from retail_stream.service.metrics import Gauges
from services.cleaner import expectations
from services.cleaner.clean import Cleaned
from services.cleaner.transport import Progress

RECORDS_IN = Counter("cleaner_records_in", "Raw records read", ["entity"])
RECORDS_OUT = Counter("cleaner_records_out", "Clean records delivered", ["entity"])
RECORDS_REJECTED = Counter("cleaner_records_rejected", "Dead letters delivered", ["entity"])
RULES_BROKEN = Counter("cleaner_rules_broken", "Records that broke a rule", ["entity", "action", "rule"])
BATCH_RECORDS = Histogram(
    "cleaner_batch_records", "Records in a batch", buckets=(1, 10, 100, 1_000, 2_500, 5_000, 10_000, 20_000, 40_000)
)
BATCH_SECONDS = Histogram("cleaner_batch_seconds", "From a batch's arrival to its delivery")
LATENCY_SECONDS = Histogram(
    "cleaner_latency_seconds",
    "From the Kafka timestamp of a batch's oldest record to the delivery of the batch: no record of it took longer",
    ["entity"],
    buckets=(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
LAG = Gauges(
    "cleaner_lag_records",
    "Offsets from the last acknowledged one to the partition's end, as of its last fetch",
    "topic",
    "partition",
)


def count(entity: Entity, records: int, cleaned: Cleaned) -> None:
    """Count a delivered batch; ``records``: how many were read and became ``cleaned``."""
    RECORDS_IN.labels(entity).inc(records)
    RECORDS_REJECTED.labels(entity).inc(len(cleaned.rejected))
    RECORDS_OUT.labels(entity).inc(records - len(cleaned.rejected))
    for (action, rule), broken in cleaned.counts.items():
        RULES_BROKEN.labels(entity, action, rule).inc(broken)


def observe(entity: Entity, records: int, oldest: int, began: float) -> None:
    """Observe a batch that was delivered just now.

    ``oldest``: the smallest timestamp of its records, in milliseconds. ``began``: ``perf_counter`` at its arrival.
    """
    BATCH_RECORDS.observe(records)
    BATCH_SECONDS.observe(time.perf_counter() - began)
    LATENCY_SECONDS.labels(entity).observe(max(0.0, time.time() - oldest / 1000))


def behind(progress: Mapping[tuple[str, int], Progress]) -> dict[tuple[str, ...], float]:
    """The lag of each partition that this process owns and whose end is known, by topic and partition."""
    return {
        # Nothing acknowledged means nothing committed: raw topics keep everything, so the lag is all of it.
        (topic, str(partition)): at.end - (at.acknowledged or 0)
        for (topic, partition), at in progress.items()
        if at.end is not None
    }


def begin_at_zero() -> None:
    """Make each counter appear at zero: one that appears with its first event has no rate for that event.

    Raises:
        RuleError: a rule is not valid.
    """
    for entity in Entity:
        for counter in (RECORDS_IN, RECORDS_OUT, RECORDS_REJECTED):
            counter.labels(entity)
        for action, name in expectations.named(entity):
            RULES_BROKEN.labels(entity, action, name)
