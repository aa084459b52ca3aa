"""What `verify` and `score` share: an engine that reads topics and recomputes without code of the services."""
