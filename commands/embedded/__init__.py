"""A real Kafka broker, schema registry and Postgres on this machine, without Docker."""
