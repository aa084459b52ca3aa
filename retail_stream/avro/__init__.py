"""Avro: schemas, the registry, and records as columns."""
