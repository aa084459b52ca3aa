"""What the services share: topics, schemas, the wire format, Kafka, Postgres, settings, and how a service starts."""
