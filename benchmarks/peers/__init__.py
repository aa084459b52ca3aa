"""The cleaner's job, done by other engines: read, decode, reject, forward. For comparison only."""
