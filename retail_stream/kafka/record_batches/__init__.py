"""Kafka's record batches as columns: no Python object for a record.

    bytes of a fetch ─ record_set ─▶ committed batches ─ pieces ─▶ Columns ─ build ─▶ OutgoingBatch ─ encode ─▶ bytes

`Columns` are positions into one buffer. Keys, values and headers that do not change are copied from it wholesale.
`reference` does the same record by record in plain Python and explains the format.
"""
