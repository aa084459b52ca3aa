"""What the cleaner counts."""

from prometheus_client import Counter, Histogram

RECORDS_IN = Counter("cleaner_records_in", "Raw records read", ["entity"])
RECORDS_OUT = Counter("cleaner_records_out", "Clean records delivered", ["entity"])
RECORDS_REJECTED = Counter("cleaner_records_rejected", "Dead letters delivered", ["entity"])
RULES_BROKEN = Counter("cleaner_rules_broken", "Records that broke a rule", ["entity", "action", "rule"])
BATCH_RECORDS = Histogram(
    "cleaner_batch_records", "Records in a batch", buckets=(1, 10, 100, 1_000, 2_500, 5_000, 10_000, 25_000)
)
BATCH_SECONDS = Histogram("cleaner_batch_seconds", "From a batch's arrival to its delivery")
