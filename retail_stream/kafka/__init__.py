"""Kafka: clients, offsets, and records as columns."""
