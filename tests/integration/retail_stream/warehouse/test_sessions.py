"""Sessions of the warehouse: the same on every server, and what a server answers is passed on in its words."""

import threading
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import ODD_DEFAULTS, odd_defaults


def shown(url: str, name: str, **session: str) -> str:
    """A setting of a session, as Postgres shows it."""
    engine = postgres.engine(url, **session)
    with engine.connect() as connection:
        value = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
    engine.dispose()
    return str(value)


def refused(url: str, *statements: str) -> str:
    """What the sentence says after a statement of one transaction failed."""
    engine = postgres.engine(url)

    def run() -> None:
        with postgres.outages(engine), engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    with pytest.raises(Unavailable) as caught:
        run()
    engine.dispose()
    return str(caught.value)


def said(url: str, words: str) -> None:
    """The sentence says this, at the latest when a busy server has answered within the five seconds of a connect."""
    heard: list[str] = []

    def is_said() -> bool:
        heard.append(refused(url))
        return words in heard[-1]

    eventually(is_said, lambda: heard[-1])


@pytest.fixture
def url(connections: Connections) -> str:
    return connections.database_url


@pytest.fixture
def odd(connections: Connections) -> str:
    """The URL of a database with odd defaults."""
    odd_defaults(connections)
    return connections.database_url


@pytest.fixture
def login(url: str) -> Iterator[str]:
    """A role that may log in, with a password."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'right' CONNECTION LIMIT 1")
        yield url.replace(url.split("//")[1].split("@")[0], "guest:right")
        admin.execute("DROP ROLE guest")


@pytest.mark.parametrize("name", ODD_DEFAULTS)
def test_defaults_of_the_database_change_no_session(url: str, odd: str, name: str) -> None:
    expected = {
        "DateStyle": "ISO, MDY",
        "TimeZone": "UTC",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "search_path": "pipeline, public",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
    }
    assert shown(odd, name) == expected[name]


def test_a_service_keeps_its_limits_and_its_name_after_a_rollback(odd: str) -> None:
    engine = postgres.service_engine(odd, "tester", threading.Event())
    with engine.connect() as connection:
        connection.rollback()
        settings = [connection.exec_driver_sql(f"SHOW {n}").scalar_one() for n in ("lock_timeout", "application_name")]
    engine.dispose()
    assert settings == ["5s", "retail_stream.tester"]


def test_a_url_chooses_limits_and_nothing_that_shapes_results(url: str) -> None:
    mine = f"{url}?options={quote('-c statement_timeout=7s -c DateStyle=German --work_mem=5MB')}&connect_timeout=9"
    assert shown(mine, "statement_timeout") == "7s"
    assert shown(mine, "work_mem") == "5MB"
    assert shown(mine, "DateStyle") == "ISO, MDY"


def test_of_several_hosts_the_one_that_answers_is_used(url: str) -> None:
    before, host = url.rsplit("@", 1)
    several = f"{before}@127.0.0.1:1,{host}"
    assert shown(several, "DateStyle") == "ISO, MDY"
    engine = postgres.engine(several)
    assert postgres.address(engine) == f"127.0.0.1:1,{host}"


def test_a_wrong_password_and_a_missing_database_are_named(url: str, login: str) -> None:
    said(login.replace("right", "wrong"), 'answers: password authentication failed for user "guest".')
    said(f"{url.rpartition('/')[0]}/no_such_one", 'answers: database "no_such_one" does not exist.')


def test_too_many_connections_are_waited_for_in_the_servers_words(login: str) -> None:
    with psycopg.connect(login):
        said(login, 'answers: too many connections for role "guest".')


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            ["SET TRANSACTION READ ONLY", "DELETE FROM outbox"],
            "cannot execute DELETE in a read-only transaction",
        ),
        (
            ["SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(20)"],
            "canceling statement due to statement timeout",
        ),
        (["SET LOCAL search_path = nowhere", "SELECT * FROM outbox"], 'relation "outbox" does not exist'),
        (["CREATE TABLE outbox ()"], 'relation "outbox" already exists'),
        (["SET LOCAL ROLE retail_stream_reader", "DELETE FROM late_sales"], "permission denied for table late_sales"),
        (["SET LOCAL ROLE retail_stream_reader", "TABLE pipeline.outbox"], "permission denied for schema pipeline"),
    ],
)
def test_what_others_mend_is_waited_for_in_the_servers_words(url: str, statements: list[str], words: str) -> None:
    assert refused(url, *statements).endswith(f" answers: {words}.")


def test_no_sentence_quotes_a_record(url: str) -> None:
    engine = postgres.engine(url)
    with postgres.outages(engine), engine.begin() as connection:
        connection.execute(text("CREATE TABLE secrets (id int PRIMARY KEY, word text)"))
        connection.execute(text("INSERT INTO secrets VALUES (1, 'kept')"))
    with pytest.raises(IntegrityError, match="duplicate key") as caught, engine.begin() as connection:
        connection.execute(text("INSERT INTO secrets VALUES (1, :word)"), {"word": "kept"})
    assert "kept" not in str(caught.value)
    with pytest.raises(Unavailable) as away, postgres.outages(engine), engine.begin() as connection:
        connection.execute(text("SET LOCAL transaction_read_only = on; DELETE FROM secrets WHERE word = 'kept'"))
    engine.dispose()
    assert "kept" not in str(away.value)


def test_the_role_of_a_session_is_taken_whatever_the_defaults(odd: str) -> None:
    engine = postgres.engine(odd, role="retail_stream_reader", default_transaction_read_only="on")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == "retail_stream_reader"
        assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    engine.dispose()
