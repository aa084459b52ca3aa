"""Engines for the warehouse, the errors of an outage, and COPY from a frame."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import polars as pl
import psycopg
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from retail_stream.errors import Unavailable

_CONNECT_S = 5
_SLICE = 10_000
_FROZEN_S = 20
_IDLE_IN_TRANSACTION = "25P03"
_LOCK_TIMEOUT = "55P03"
_QUERY_CANCELLED = "57014"


def engine(database_url: str, **session: str) -> Engine:
    """An engine on psycopg whose sessions speak UTC and notice a dead server within seconds.

    ``session``: further settings of Postgres for every session, e.g. ``statement_timeout="5s"``.
    """
    options = {"timezone": "UTC", "intervalstyle": "postgres", **session}
    _, _, rest = database_url.partition("://")
    return create_engine(
        f"postgresql+psycopg://{rest}",
        pool_pre_ping=True,
        pool_size=2,
        # Errors are logged; parameters are records, which are not.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_S,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )


def service_engine(database_url: str, service: str, **session: str) -> Engine:
    """An :func:`engine` for the short transactions of a service, whose replicas wait for each other's locks.

    A process that froze in mid-transaction (SIGSTOP, a paused machine) loses its session, and with it its locks: after
    20 s, or, in the middle of a statement, after 20 s when another session wants a lock. A wait for a lock raises
    :class:`Unavailable` every 5 s, so that a stop is noticed.
    """
    return engine(
        database_url,
        application_name=f"retail_stream.{service}",
        idle_in_transaction_session_timeout="20s",
        lock_timeout="5s",
        tcp_keepalives_idle="5",
        tcp_keepalives_interval="2",
        tcp_keepalives_count="3",
        **session,
    )


def address(engine: Engine) -> str:
    """host:port/database, for sentences; never the password."""
    return f"{engine.url.host}:{engine.url.port or 5432}/{engine.url.database}"


def is_outage(error: DBAPIError | psycopg.Error) -> bool:
    """Whether the server is away or going away (SQLSTATE classes 08, 53 and 57), not refusing a statement.

    COPY bypasses SQLAlchemy, so its errors are the driver's own.
    """
    if isinstance(error, psycopg.Error):
        original: BaseException | None = error
    elif error.connection_invalidated:
        return True
    else:
        original = error.orig
    if isinstance(original, psycopg.InterfaceError):
        return True
    state = getattr(original, "sqlstate", None)
    if state == _IDLE_IN_TRANSACTION:
        return True
    # A cancelled statement, for example by statement_timeout: the server answers.
    if state == _QUERY_CANCELLED:
        return False
    return isinstance(original, psycopg.OperationalError) and (state is None or state[:2] in ("08", "53", "57"))


def is_rolled_back(error: DBAPIError | psycopg.Error) -> bool:
    """Whether the server rolled a transaction back in favour of another, as after a deadlock (SQLSTATE class 40)."""
    return _state(error).startswith("40")


def _state(error: DBAPIError | psycopg.Error) -> str:
    original = error if isinstance(error, psycopg.Error) else error.orig
    return str(getattr(original, "sqlstate", None))


def unavailable(engine: Engine) -> Unavailable:
    """The sentence for a database that does not answer."""
    return Unavailable(f"Postgres at {address(engine)} does not answer.")


@contextmanager
def outages(engine: Engine) -> Iterator[None]:
    """Raise :class:`Unavailable` for an outage and for a transaction that should be tried again; other errors pass."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as e:
        if _state(e) == _LOCK_TIMEOUT:
            _end_frozen(engine)
            raise Unavailable(f"Postgres at {address(engine)}: another session keeps a lock.") from e
        if is_rolled_back(e):
            raise Unavailable(f"Postgres at {address(engine)} ended a transaction in favour of another.") from e
        if is_outage(e):
            raise unavailable(engine) from e
        raise


def _end_frozen(engine: Engine) -> None:
    """End sessions of the same service that have waited for their client for 20 s in the middle of a statement.

    Postgres has no timeout for that: COPY waits for the next row without end, and the kernel still acknowledges packets
    for a process that was stopped.
    """
    with contextlib.suppress(DBAPIError), engine.begin() as connection:
        connection.execute(
            text("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = current_user
                  AND application_name = current_setting('application_name')
                  AND state <> 'idle' AND wait_event_type = 'Client'
                  AND state_change < clock_timestamp() - make_interval(secs => :frozen)
            """),
            {"frozen": _FROZEN_S},
        )


def cursor(connection: Connection) -> psycopg.Cursor:
    """The driver's own cursor inside SQLAlchemy's transaction, for COPY."""
    return cast("psycopg.Cursor", connection.connection.cursor())


def copy(connection: Connection, table: str, frame: pl.DataFrame, times: Sequence[str] = ()) -> None:
    """COPY a frame into the columns of ``table`` that have its columns' names.

    ``times``: columns of int64 microseconds since 1970-01-01 UTC that go into ``timestamptz`` columns.
    """
    frame = frame.with_columns(pl.col(name).cast(pl.Datetime("us")) for name in times)
    columns = ", ".join(f'"{c}"' for c in frame.columns)
    with cursor(connection) as cur, cur.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)") as sink:
        # In slices, so that Postgres loads one while the next is written.
        for rows in frame.iter_slices(_SLICE):
            out = io.BytesIO()
            # COPY reads an unquoted empty field as NULL and a quoted one as the empty string; polars writes these.
            rows.write_csv(out, include_header=False, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ", quote_style="necessary")
            sink.write(out.getbuffer())
