"""What a service needs besides its work: its start and end, logs, metrics, readiness, signals."""
