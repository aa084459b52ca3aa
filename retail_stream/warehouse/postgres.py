"""Engines for the warehouse, the errors that are worth another try, and COPY from a frame."""

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import polars as pl
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from retail_stream.errors import Locked, Unavailable
from retail_stream.warehouse.stopping import CutAtStop

_SLICE = 10_000
_FROZEN_S = 20
#: What libpq is told unless the URL says otherwise: a dead server is noticed within seconds.
_CONNECT: Final[Mapping[str, str]] = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
#: What every session sets, whatever the defaults of the server, the database and the role are.
_SESSION: Final[Mapping[str, str]] = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    # What the services keep for themselves, then what analysts read.
    "search_path": "pipeline, public",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
#: Settings of a session that the URL's ``options`` may choose: they shape no result.
_LIMITS = frozenset({"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"})
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_]+)=")

_LOCK_TIMEOUT = "55P03"
#: SQLSTATE classes of a statement or a value that the server will never take (Postgres' manual, appendix A).
_REFUSED: Final = frozenset({"0A", "21", "22", "23", "26", "2D", "34", "3B", "42", "44", "54", "P0"})
#: Of these classes, what others change: a right, a table that is made or replaced beside us.
_MENDED: Final = frozenset({"42501", "42P01", "42P07", "42710"})
#: Of the class 25, what only wrong code does: statements outside a transaction, or in one that has failed.
_MISUSED: Final = frozenset({"25P01", "25P02", "25001"})


def engine(
    database_url: str, opened: Callable[[psycopg.Connection], object] = lambda _: None, /, **session: str
) -> Engine:
    """An engine on psycopg whose sessions have the same settings on every server, and notice a dead one within seconds.

    ``database_url``: as libpq reads it, several hosts, ``options``, ``connect_timeout`` and ``sslmode`` included. With
    several hosts, the one that takes writes is used, unless the URL says otherwise. ``opened``: gets each connection.
    ``session``: further settings of Postgres for every session, e.g. ``statement_timeout="5s"``.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(database_url).items() if value is not None}
    limits = {name.lower() for name in _OPTION.findall(given.get("options", ""))} & _LIMITS
    several = {"target_session_attrs": "read-write"} if "," in given.get("host", "") else {}
    dsn = make_conninfo(**{**_CONNECT, **several, **given})
    settings = {name: value for name, value in {**_SESSION, **session}.items() if name not in limits}
    # Not as options of the connection: poolers such as PgBouncer refuse those.
    statement = "SELECT " + ", ".join(["set_config(%s, %s, false)"] * len(settings))
    values = [part for setting in settings.items() for part in setting]
    made = create_engine(
        _shown(given),
        pool_pre_ping=True,
        pool_size=2,
        # Errors are logged; parameters are records, which are not.
        hide_parameters=True,
    )

    @event.listens_for(made, "do_connect")
    def connect(_: Any, __: Any, ___: Any, params: Mapping[str, Any]) -> psycopg.Connection:
        connection = psycopg.connect(dsn, autocommit=True, context=params.get("context"))
        opened(connection)
        try:
            connection.execute(statement, values)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    return made


def _shown(given: Mapping[str, str]) -> URL:
    """The URL that sentences show: hosts, database and user; never the password."""
    hosts = (given.get("host") or given.get("hostaddr") or "localhost").split(",")
    ports = (given.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    user, database = given.get("user"), given.get("dbname") or given.get("user") or ""
    if len(hosts) == 1:
        return URL.create("postgresql+psycopg", user, None, hosts[0], int(ports[0]), database)
    several = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True))
    return URL.create("postgresql+psycopg", user, None, several, None, database)


def service_engine(database_url: str, service: str, stop: threading.Event, **session: str) -> Engine:
    """An :func:`engine` for the short transactions of a service, whose replicas wait for each other's locks.

    A process that froze in mid-transaction (SIGSTOP, a paused machine) loses its session, and with it its locks: after
    20 s, or, in the middle of a statement, after 20 s when another session wants a lock. A wait for a lock raises
    :class:`Locked` every 5 s, so that a stop is noticed. A while after ``stop`` is set, connections are cut: see
    :class:`CutAtStop`.
    """
    return engine(
        database_url,
        CutAtStop(stop).add,
        application_name=f"retail_stream.{service}",
        idle_in_transaction_session_timeout="20s",
        lock_timeout="5s",
        tcp_keepalives_idle="5",
        tcp_keepalives_interval="2",
        tcp_keepalives_count="3",
        **session,
    )


def address(engine: Engine) -> str:
    """host:port/database, for sentences; with commas between several hosts."""
    url = engine.url
    return f"{url.host}:{url.port}/{url.database}" if url.port else f"{url.host}/{url.database}"


def is_worth_another_try(error: DBAPIError | psycopg.Error) -> bool:
    """Whether the same statement can succeed later: all but what the server refuses because of a statement or a value.

    A server that is away, starts, stops, fails over, is full or cancels a statement, a wrong password and a missing
    right are mended by others, while we wait. COPY bypasses SQLAlchemy, so its errors are the driver's own.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = _state(error)
    if state is None:
        # Of the client itself: a connection that is lost or refused, against wrong use of the driver.
        return isinstance(_original(error), psycopg.OperationalError | psycopg.InterfaceError)
    return state in _MENDED or (state[:2] not in _REFUSED and state not in _MISUSED)


def server_words(error: DBAPIError | psycopg.Error) -> str | None:
    """What the server answered, one line without values of records; None if it did not answer."""
    original = _original(error)
    if isinstance(original, psycopg.Error) and _state(error) is not None:
        # Not the detail: it quotes rows.
        return original.diag.message_primary or type(original).__name__
    # A refused connection has no SQLSTATE, only libpq's text.
    said = re.search(r"FATAL:\s+(.+)", str(original))
    return said[1].strip() if said else None


def _original(error: DBAPIError | psycopg.Error) -> BaseException | None:
    return error if isinstance(error, psycopg.Error) else error.orig


def _state(error: DBAPIError | psycopg.Error) -> str | None:
    state = getattr(_original(error), "sqlstate", None)
    return None if state is None else str(state)


def unavailable(engine: Engine, error: DBAPIError | psycopg.Error | None = None) -> Unavailable:
    """The error for a database that does not answer, or the server's own words if it did."""
    words = None if error is None else server_words(error)
    does = "does not answer" if words is None else f"answers: {words}"
    return Unavailable(f"Postgres at {address(engine)} {does}.")


@contextmanager
def outages(engine: Engine) -> Iterator[None]:
    """Raise :class:`Unavailable` for every error that :func:`is_worth_another_try`, others pass.

    A lock that another session keeps is :class:`Locked`.
    """
    try:
        yield
    except (DBAPIError, psycopg.Error) as e:
        if not is_worth_another_try(e):
            raise
        if _state(e) == _LOCK_TIMEOUT:
            _end_frozen(engine)
            raise Locked(f"Postgres at {address(engine)}: another session keeps a lock.") from e
        raise unavailable(engine, e) from e


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
