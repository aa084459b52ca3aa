"""Analysts log in as the role that reads `public` and nothing else, if `init` was given a password."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import Engine, event, text

from commands.init import migrate
from retail_stream.settings import Connections
from retail_stream.warehouse import roles
from retail_stream.warehouse.roles import CONNECTIONS, LIMITS, READER

PASSWORD = "p'a:s%s$w\"ö"


@pytest.fixture
def analysts(connections: Connections) -> Iterator[Connections]:
    """The role has no login before and after a test: roles belong to the whole server."""
    migrate(connections)
    yield connections
    migrate(connections)


def login(connections: Connections, password: str) -> psycopg.Connection:
    place = connections.database_url.rpartition("@")[2]
    return psycopg.connect(f"postgresql://{READER}@{place}", password=password, autocommit=True)


def relations(connections: Connections, schema: str) -> list[str]:
    with psycopg.connect(connections.database_url) as admin:
        found = admin.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = %s::regnamespace"
            " AND relkind IN ('r', 'p', 'v')",
            [schema],
        ).fetchall()
    return [name for (name,) in found]


def test_without_a_password_it_cannot_log_in(analysts: Connections) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"is not permitted to log in|authentication failed"):
        login(analysts, PASSWORD)


def test_a_password_is_given_changed_and_taken_away(analysts: Connections) -> None:
    migrate(analysts, PASSWORD)
    login(analysts, PASSWORD).close()
    migrate(analysts, "another")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        login(analysts, PASSWORD)
    login(analysts, "another").close()
    migrate(analysts)
    with pytest.raises(psycopg.OperationalError, match=r"is not permitted to log in|authentication failed"):
        login(analysts, "another")


def test_it_reads_all_of_public_and_nothing_of_pipeline(analysts: Connections) -> None:
    migrate(analysts, PASSWORD)
    public, pipeline = (relations(analysts, schema) for schema in ("public", "pipeline"))
    assert {"fact_sales", "late_sales", "dim_stores", "sales_enriched", "consumer_positions"} <= {*public}
    with login(analysts, PASSWORD) as reader:
        for name in public:
            reader.execute(f"SELECT * FROM {name} LIMIT 1")
        for function in ("customers_as_of", "products_as_of", "stores_as_of"):
            reader.execute(f"SELECT * FROM {function}(now())")
        for name in pipeline:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"SELECT * FROM {name} LIMIT 1")
        reader.execute("SET default_transaction_read_only = off")
        for change in ("DELETE FROM fact_sales", "UPDATE consumer_positions SET epoch = 0", "CREATE TABLE mine ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(change)


def test_in_a_shared_database_it_reads_nothing_of_others(analysts: Connections, warehouse: Engine) -> None:
    with warehouse.begin() as connection:
        for statement in (
            "DROP SCHEMA public, pipeline CASCADE; CREATE SCHEMA public",
            "CREATE ROLE stranger; GRANT stranger TO CURRENT_USER; GRANT ALL ON SCHEMA public TO stranger",
            "SET LOCAL ROLE stranger",
            "CREATE TABLE public.theirs (x integer); REVOKE ALL ON public.theirs FROM PUBLIC",
        ):
            connection.execute(text(statement))
    try:
        migrate(analysts, PASSWORD)
        with login(analysts, PASSWORD) as reader:
            for name in ("dim_stores", "sales_enriched", "consumer_positions"):
                reader.execute(f"SELECT * FROM {name} LIMIT 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("SELECT * FROM theirs")
    finally:
        with warehouse.begin() as connection:
            connection.execute(text("DROP OWNED BY stranger; DROP ROLE stranger"))


def test_no_statement_holds_the_password_itself(analysts: Connections, warehouse: Engine) -> None:
    asked: list[str] = []
    event.listen(warehouse, "before_cursor_execute", lambda *call: asked.append(call[2]))
    with warehouse.begin() as connection:
        roles.create(connection, PASSWORD)
    assert f"ALTER ROLE {READER} LOGIN PASSWORD 'SCRAM-SHA-256$" in str(asked)
    login(analysts, PASSWORD).close()


def test_its_statements_transactions_and_sessions_are_limited(analysts: Connections) -> None:
    """Set by the owner of the database, who is no superuser, as managed Postgres has it."""
    migrate(analysts, PASSWORD)
    with psycopg.connect(analysts.database_url) as owner:
        assert owner.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    with login(analysts, PASSWORD) as reader:
        assert {name: reader.execute(f"SHOW {name}").fetchone()[0] for name in LIMITS} == {  # type: ignore[index]
            **LIMITS,
            "idle_in_transaction_session_timeout": "1min",
        }
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("CREATE TEMP TABLE mine (x integer)")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(login(analysts, PASSWORD))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            login(analysts, PASSWORD)


def test_a_long_statement_of_its_own_is_cancelled(
    analysts: Connections, warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same limit, set to less: a query that would run for hours ends, and the owner can end its session."""
    monkeypatch.setitem(LIMITS, "statement_timeout", "100ms")
    migrate(analysts, PASSWORD)
    with login(analysts, PASSWORD) as reader:
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            reader.execute("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b")
        with warehouse.connect() as owner:
            ended = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role")
            assert True in owner.execute(ended, {"role": READER}).scalars().all()
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
