"""What the generator counts, for Prometheus and for its log."""

from collections import Counter

from prometheus_client import Counter as Total
from prometheus_client import Gauge

from retail_stream.entities import Entity
from services.generator.faults import Fault
from services.generator.records import ProducerBatch

RECORDS = Total("generator_records_total", "Records published, counted after the commit.", ["entity"])
FAULTS = Total("generator_faults_total", "Faults planted; a record may have several.", ["entity", "fault"])
IN_FLIGHT = Gauge("generator_in_flight_records", "Records in the open transaction.", ["entity"])


class Counts:
    """The counts of one entity. One thread counts, any thread may read."""

    def __init__(self, entity: Entity) -> None:
        self._records = RECORDS.labels(entity)
        self._in_flight = IN_FLIGHT.labels(entity)
        self._faults = {f: FAULTS.labels(entity, f) for f in Fault}
        self.records = 0
        #: Replaced by a new counter for each batch, never changed: other threads add its values up.
        self.faults: Counter[Fault] = Counter()

    def sending(self, batch: ProducerBatch) -> None:
        """Count a batch as in flight."""
        self._in_flight.set(len(batch))

    def published(self, batch: ProducerBatch) -> None:
        """Count a batch as published."""
        self._records.inc(len(batch))
        self.records += len(batch)
        self._in_flight.set(0)
        planted = Counter(fault for faults in batch.faults.values() for fault in faults)
        self.faults = self.faults + planted
        for fault, count in planted.items():
            self._faults[fault].inc(count)
