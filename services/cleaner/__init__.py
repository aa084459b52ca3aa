"""The cleaner: raw records in, clean records and dead letters out, nothing rejected without a trace."""
