"""What `verify` and `score` share: an engine of their own that reads topics and recomputes."""
