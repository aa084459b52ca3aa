"""The cleaner: raw records in, clean records and dead letters out, and every rejected record traceable."""
