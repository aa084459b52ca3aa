"""Back from Kafka: what a restart reads from the topics to go on from."""
