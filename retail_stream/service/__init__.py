"""What a running service has besides its work: logs, metrics, readiness, signals."""
