"""`retail-stream verify`: recomputes everything from the raw topics, by other means than the services use.

fastavro decodes record by record. DuckDB's SQL computes what should be there, and each check compares that with the
topics or with one snapshot of the warehouse. The only import from a service is the version of the cleaner's rules.
Nothing here writes.
"""
