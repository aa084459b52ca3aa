"""Which errors of Postgres are worth another try, and what sentences say of them."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, OperationalError

from retail_stream.errors import Unavailable
from retail_stream.warehouse.postgres import address, engine, is_worth_another_try, outages, server_words

ENGINE = engine("postgresql://ada:secret@db/wh")
FAILED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "state",
    [
        *("08006", "08P01", "25006", "25P03", "25P04", "28000", "28P01", "3D000", "3F000", "40001", "40P01", "42501"),
        *("42P01", "42P07", "53100", "53200", "53300", "55006", "55P03", "57014", "57P01", "57P03", "58030"),
        *("72000", "F0000", "XX000", "XX001"),
    ],
)
def test_what_the_server_or_its_operator_mends_is_tried_again(state: str) -> None:
    assert is_worth_another_try(_error(state))
    assert is_worth_another_try(OperationalError("", {}, _error(state)))
    with pytest.raises(Unavailable, match=r"^Postgres at db:5432/wh.*\.$"), outages(ENGINE):
        raise _error(state)


@pytest.mark.parametrize(
    "state",
    [
        "0A000",
        "21000",
        "22003",
        "22P02",
        "23502",
        "23505",
        "25P01",
        "25P02",
        "42601",
        "42703",
        "42804",
        "54000",
        "P0001",
    ],
)
def test_a_statement_or_a_value_that_the_server_never_takes_is_not(state: str) -> None:
    assert not is_worth_another_try(_error(state))
    with pytest.raises(psycopg.Error), outages(ENGINE):
        raise _error(state)


def test_a_lost_connection_is_tried_again_and_wrong_use_of_the_driver_is_not() -> None:
    assert is_worth_another_try(psycopg.OperationalError("the connection is lost"))
    assert is_worth_another_try(psycopg.InterfaceError("the connection is closed"))
    assert is_worth_another_try(DBAPIError("", {}, psycopg.DataError(""), connection_invalidated=True))
    assert not is_worth_another_try(psycopg.ProgrammingError("the query has 0 placeholders but 1 was passed"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('FATAL:  password authentication failed for user "ada"', 'password authentication failed for user "ada"'),
        ("FATAL:  sorry, too many clients already\nmore", "sorry, too many clients already"),
        ("Connection refused\n\tIs the server running on that host?", None),
    ],
)
def test_the_servers_words_are_passed_on(text: str, words: str | None) -> None:
    error = psycopg.OperationalError(f"{FAILED}{text}")
    assert server_words(error) == words
    sentence = "does not answer" if words is None else f"answers: {words}"
    with pytest.raises(Unavailable) as caught, outages(ENGINE):
        raise error
    assert str(caught.value) == f"Postgres at db:5432/wh {sentence}."


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:1/d", "h:1/d"),
        ("postgres://u:p@[::1]/d?sslmode=require", "::1:5432/d"),
        ("postgresql://u:p@h1:1,h2:2/d", "h1:1,h2:2/d"),
        ("postgresql://u:p@h1,h2/d?target_session_attrs=any", "h1:5432,h2:5432/d"),
        ("postgresql:///d?host=/run/postgresql&password=p", "/run/postgresql:5432/d"),
    ],
)
def test_an_address_names_hosts_and_database_and_no_password(url: str, shown: str) -> None:
    made = engine(url)
    assert address(made) == shown
    assert "p@" not in str(made.url) + repr(made)


def _error(state: str) -> psycopg.Error:
    return errors.lookup(state)("words")
