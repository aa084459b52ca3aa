"""The metrics of the cleaner."""

import time

from prometheus_client import Counter, Histogram

from retail_stream.entities import Entity
from retail_stream.service.metrics import Gauges
from services.cleaner import expectations
from services.cleaner.forward import Delivered

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


def observe(entity: Entity, delivered: Delivered) -> None:
    """Count and observe a batch that was delivered just now."""
    RECORDS_IN.labels(entity).inc(delivered.records)
    RECORDS_REJECTED.labels(entity).inc(len(delivered.rejected))
    RECORDS_OUT.labels(entity).inc(delivered.records - len(delivered.rejected))
    for (action, rule), broken in delivered.counts.items():
        RULES_BROKEN.labels(entity, action, rule).inc(broken)
    BATCH_RECORDS.observe(delivered.records)
    BATCH_SECONDS.observe(time.perf_counter() - delivered.began)
    LATENCY_SECONDS.labels(entity).observe(max(0.0, time.time() - delivered.oldest / 1000))


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
