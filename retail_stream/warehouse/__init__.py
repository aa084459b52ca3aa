"""The warehouse in Postgres: engines, positions, replays, roles."""
