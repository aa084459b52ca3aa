"""What the services share: topics, schemas, the wire format, handles to Kafka and Postgres, and the commands."""
