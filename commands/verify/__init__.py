"""`retail-stream verify`: everything recomputed from the raw topics by other means than the services use.

fastavro decodes record by record, DuckDB's SQL says what should be there, and each check compares that with what is:
in the topics, and in one snapshot of the warehouse. Nothing here imports a service but the cleaner's version of its
rules, and nothing writes.
"""
