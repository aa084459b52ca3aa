"""Refusals by Postgres, as distinct from outages: one sentence each that says what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.warehouse.postgres import address
from retail_stream.warehouse.roles import READER

# A refused connection has no SQLSTATE, only the server's words. A server that starts, stops or is full also says FATAL;
# that is an outage.
_FATAL = re.compile(
    r"(?:FATAL:\s+)?((?:role|database) \"[^\"]*\" does not exist|(?:password|\w+) authentication failed[^\n]*"
    r"|no pg_hba\.conf entry[^\n]*|role \"[^\"]*\" is not permitted to log in|permission denied (?:for|to)[^\n]*"
    r"|fe_sendauth: no password supplied)"
)
_REFUSALS = (psycopg.OperationalError, errors.InsufficientPrivilege, errors.InvalidParameterValue)


@contextmanager
def refusals(engine: Engine) -> Iterator[None]:
    """Turn a refusal of the server into a sentence; outages and all other errors pass through.

    Raises:
        SettingsError: the role or the database does not exist, or this user may not connect.
        RetailStreamError: this user may not read, or `retail-stream init` has not run.
    """
    try:
        yield
    except DBAPIError as e:
        if (refused := refusal(engine, e)) is not None:
            raise refused from e
        raise


def refusal(engine: Engine, error: DBAPIError) -> RetailStreamError | None:
    """The error to raise; None unless Postgres refused."""
    where = f"Postgres at {address(engine)}"
    if isinstance(error.orig, errors.UndefinedTable):
        return RetailStreamError(f"{where} has no tables yet; run `retail-stream init`.")
    match = _FATAL.search(str(error.orig))
    if isinstance(error.orig, errors.InsufficientPrivilege) and (match is None or "to set role" not in match[1]):
        words = str(error.orig).splitlines()[0]
        return RetailStreamError(f"{where}: {words}; use the role {READER}, or GRANT SELECT to this user.")
    # The session takes its role when it is there: these two have an SQLSTATE.
    if match is None or not isinstance(error.orig, _REFUSALS):
        return None
    words = match[1].strip()
    if words == f'role "{READER}" does not exist':
        return SettingsError(f"{where} has no role {READER} yet; run `retail-stream init`.")
    if words.startswith("role"):
        return SettingsError(f"{where}: {words}; use a user in the URL that may log in there.")
    if words.startswith("database"):
        return SettingsError(f"{where}: {words}; create the database, then run `retail-stream init`.")
    if "to set role" in words:
        return SettingsError(
            f"{where}: {words}; run `retail-stream init` as the same user, which grants {READER} to it."
        )
    return SettingsError(f"{where} does not let {engine.url.username or 'us'} in: {words}.")
