"""What the generator counts."""

from prometheus_client import Counter, Gauge

RECORDS = Counter("generator_records_total", "Records published: everybody can read them.", ["entity"])
FAULTS = Counter("generator_faults_total", "Faults planted; a record may have several.", ["entity", "fault"])
IN_FLIGHT = Gauge("generator_in_flight_records", "Records in the transaction that is open.", ["entity"])
