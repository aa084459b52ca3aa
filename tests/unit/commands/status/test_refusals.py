"""Refusals by Postgres are distinguished from outages, by the server's words if there is no code."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import OperationalError, ProgrammingError

from commands.status.refusals import refusal
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.warehouse.postgres import engine, is_worth_another_try

ENGINE = engine("postgresql://ada@db/wh")
FAILED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  '


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ('role "retail_stream_reader" does not exist', "no role retail_stream_reader yet; run `retail-stream init`"),
        ('role "ada" does not exist', 'role "ada" does not exist; use a user in the URL that may log in'),
        ('database "wh" does not exist', 'database "wh" does not exist; create the database, then run'),
        ('password authentication failed for user "ada"', "does not let ada in: password authentication failed"),
        ('no pg_hba.conf entry for host "10.0.0.1"', "does not let ada in: no pg_hba.conf entry"),
        ('permission denied to set role "retail_stream_reader"', "as the same user, which grants"),
    ],
)
def test_a_connection_that_is_refused_says_why(words: str, expected: str) -> None:
    error = OperationalError("", {}, psycopg.OperationalError(f"{FAILED}{words}"))
    refused = refusal(ENGINE, error)
    assert isinstance(refused, SettingsError)
    assert str(refused).startswith("Postgres at db:5432/wh")
    assert expected in str(refused)
    assert "\n" not in str(refused)


@pytest.mark.parametrize(
    "words",
    ["the database system is starting up", "sorry, too many clients already", "terminating connection"],
)
def test_a_server_that_comes_or_goes_or_is_full_is_an_outage(words: str) -> None:
    error = OperationalError("", {}, psycopg.OperationalError(f"{FAILED}{words}"))
    assert refusal(ENGINE, error) is None
    assert is_worth_another_try(error)


def test_missing_tables_and_rights_say_who_gives_them() -> None:
    tables = refusal(ENGINE, ProgrammingError("", {}, errors.UndefinedTable('relation "outbox" does not exist')))
    rights = refusal(ENGINE, ProgrammingError("", {}, errors.InsufficientPrivilege("permission denied for table x")))
    assert isinstance(tables, RetailStreamError)
    assert "has no tables yet; run `retail-stream init`." in str(tables)
    assert "permission denied for table x" in str(rights)


@pytest.mark.parametrize("kind", [errors.InsufficientPrivilege, errors.InvalidParameterValue])
def test_a_role_that_a_session_may_not_take_or_that_is_not_there_says_why(kind: type[psycopg.Error]) -> None:
    words: dict[type[psycopg.Error], tuple[str, str]] = {
        errors.InsufficientPrivilege: ('permission denied to set role "retail_stream_reader"', "which grants"),
        errors.InvalidParameterValue: ('role "retail_stream_reader" does not exist', "run `retail-stream init`"),
    }
    said, expected = words[kind]
    refused = refusal(ENGINE, ProgrammingError("", {}, kind(said)))
    assert isinstance(refused, SettingsError)
    assert expected in str(refused)
