"""To Kafka: values as Avro, their ledger, and both in transactions of the one generator."""
