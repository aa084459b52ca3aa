"""What the generator counts."""

from prometheus_client import Counter, Gauge

RECORDS = Counter("generator_records_total", "Records handed to the producer.", ["entity"])
FAULTS = Counter("generator_faults_total", "Faults planted; a record may have several.", ["entity", "fault"])
IN_FLIGHT = Gauge("generator_in_flight_records", "Records that the broker has not acknowledged.", ["entity"])
