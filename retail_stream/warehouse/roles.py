"""The role that only reads the warehouse: for the dashboard, and for people who only look."""

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

READER = "retail_stream_reader"
_log = structlog.get_logger(__name__)

# Roles belong to the whole server: two databases may be initialised at once.
_CREATE = f"""
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN
            CREATE ROLE {READER} NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$
"""
_GRANTS = (
    # Who made a role may grant it, but not take it without being granted it (Postgres 16 and newer).
    f"GRANT {READER} TO CURRENT_USER",
    f"GRANT USAGE ON SCHEMA public TO {READER}",
    f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {READER}",
)


def create(connection: Connection) -> None:
    """Create the role where it is missing and let it read every table, those of later migrations included.

    A user who may not create roles is told what to do; the warehouse works without.
    """
    try:
        with connection.begin_nested():
            # GRANT writes the same catalogue rows from wherever it is called: one at a time.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('retail_stream_reader'))"))
            connection.execute(text(_CREATE))
            for grant in _GRANTS:
                connection.execute(text(grant))
    except ProgrammingError as e:
        if getattr(e.orig, "sqlstate", None) != "42501":  # insufficient_privilege
            raise
        _log.warning(
            "no reader role",
            why=f"This user may not create the role {READER}; the dashboard needs it, or DASHBOARD_DATABASE_URL with a "
            "user of its own that may read.",
        )
