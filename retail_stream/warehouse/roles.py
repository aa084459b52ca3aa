"""The role that may only read what is in `public`, for the dashboard and for analysts."""

from typing import cast

import psycopg
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

READER = "retail_stream_reader"
_log = structlog.get_logger(__name__)

# Roles belong to the whole server, and two of its databases may be initialised at once.
_CREATE = f"""
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN
            CREATE ROLE {READER} NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$
"""
_GRANTS = (
    # Since Postgres 16 the creator of a role may grant it, but needs a grant to use it.
    f"GRANT {READER} TO CURRENT_USER",
    f"GRANT USAGE ON SCHEMA public TO {READER}",
    # Those of this user: a shared database has tables of others, which are not ours to show.
    f"""
    DO $$ DECLARE own regclass; BEGIN
        FOR own IN SELECT oid FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
              AND relowner = CURRENT_USER::regrole
        LOOP
            EXECUTE 'GRANT SELECT ON ' || own || ' TO {READER}';
        END LOOP;
    END $$
    """,
    # It could read these before they had a schema of their own.
    f"REVOKE ALL ON ALL TABLES IN SCHEMA pipeline FROM {READER}",
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {READER}",
)
#: At most so many sessions of the role at a time: Postgres refuses the next one.
CONNECTIONS = 10
#: What a session of the role begins with. A database owner may set these, as managed Postgres has it.
LIMITS = {
    "statement_timeout": "30s",
    # An open transaction keeps dead rows from being removed.
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "5s",
    # No temporary tables either.
    "default_transaction_read_only": "on",
    "max_parallel_workers_per_gather": "1",
}
#: What only a superuser may set.
_SUPERUSERS_LIMITS = {"temp_file_limit": "2GB"}
_INSUFFICIENT_PRIVILEGE = "42501"


def create(connection: Connection, password: str | None = None) -> None:
    """Create the role if it is missing and let it read all of `public`, what later migrations make there included.

    ``password``: with which the role may log in; None takes a login away. If the user may not create roles, a warning
    says what to do; the warehouse works without the role. Sessions of the role begin with :data:`LIMITS`.
    """
    try:
        with connection.begin_nested():
            # GRANTs write the same rows of the catalogue. Where another database does so, `init` is tried again.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('retail_stream_reader'))"))
            connection.execute(text(_CREATE))
            for grant in _GRANTS:
                connection.execute(text(grant))
        with connection.begin_nested():
            _set_login(connection, password)
            _set_limits(connection)
    except ProgrammingError as e:
        if getattr(e.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        _log.warning(
            "reader role stays as it is",
            why=f"This user may not create the role {READER}, or not change it. If it is missing, let an administrator "
            "create it for the dashboard, or set DASHBOARD_DATABASE_URL with a user that may read.",
        )


def _set_login(connection: Connection, password: str | None) -> None:
    if password is not None:
        # Hashed here: a server may log statements.
        driver = cast("psycopg.Connection", connection.connection.driver_connection)
        secret = driver.pgconn.encrypt_password(password.encode(), READER.encode(), b"scram-sha-256").decode()
        connection.exec_driver_sql(f"ALTER ROLE {READER} LOGIN PASSWORD '{secret}'")
    elif connection.execute(text(f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{READER}'")).scalar_one():
        connection.execute(text(f"ALTER ROLE {READER} NOLOGIN PASSWORD NULL"))


def _set_limits(connection: Connection) -> None:
    """Set what is not set yet: two databases that write the same row of the catalogue at once are an error."""
    role = connection.execute(
        text(f"SELECT rolconnlimit, coalesce(rolconfig, '{{}}') AS config FROM pg_roles WHERE rolname = '{READER}'")
    ).one()
    if role.rolconnlimit != CONNECTIONS:
        connection.execute(text(f"ALTER ROLE {READER} CONNECTION LIMIT {CONNECTIONS}"))
    for name, value in LIMITS.items():
        if f"{name}={value}" not in role.config:
            connection.execute(text(f"ALTER ROLE {READER} SET {name} = '{value}'"))
    if connection.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar_one():
        for name, value in _SUPERUSERS_LIMITS.items():
            connection.execute(text(f"ALTER ROLE {READER} SET {name} = '{value}'"))
