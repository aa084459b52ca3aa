"""What Postgres refuses, told from an outage: each refusal in one sentence that says who must do what."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.warehouse.postgres import address
from retail_stream.warehouse.roles import READER

# A connection that is refused has no SQLSTATE, only the server's words; a server that starts, stops or is full also
# says FATAL, and is an outage.
_FATAL = re.compile(
    r"(?:FATAL:\s+)?((?:role|database) \"[^\"]*\" does not exist|(?:password|\w+) authentication failed[^\n]*"
    r"|no pg_hba\.conf entry[^\n]*|role \"[^\"]*\" is not permitted to log in|permission denied (?:for|to)[^\n]*"
    r"|fe_sendauth: no password supplied)"
)


@contextmanager
def refusals(engine: Engine) -> Iterator[None]:
    """Turn what the server refuses into a sentence; outages and all else pass, for whoever is around this.

    Raises:
        SettingsError: it knows no such role or database, or does not let this user in.
        RetailStreamError: this user may not read, or `retail-stream init` has not run.
    """
    try:
        yield
    except DBAPIError as e:
        if (refused := refusal(engine, e)) is not None:
            raise refused from e
        raise


def refusal(engine: Engine, error: DBAPIError) -> RetailStreamError | None:
    """The sentence, or None for what is no refusal."""
    where = f"Postgres at {address(engine)}"
    if isinstance(error.orig, errors.UndefinedTable):
        return RetailStreamError(f"{where} has no tables yet: `retail-stream init` creates them.")
    if isinstance(error.orig, errors.InsufficientPrivilege):
        words = str(error.orig).splitlines()[0]
        return RetailStreamError(
            f"{where}: {words}; `retail-stream init` lets {READER} read, other users need GRANT SELECT."
        )
    if getattr(error.orig, "sqlstate", None) is not None or (found := _FATAL.search(str(error.orig))) is None:
        return None
    words = found[1].strip()
    if words == f'role "{READER}" does not exist':
        return SettingsError(f"{where} has no role {READER} yet: `retail-stream init` creates it.")
    if words.startswith("role"):
        return SettingsError(f"{where}: {words}; the user of the URL is to be one that may log in there.")
    if words.startswith("database"):
        return SettingsError(f"{where}: {words}; the database of the URL has to be created, then `retail-stream init`.")
    if "to set role" in words:
        return SettingsError(f"{where}: {words}; `retail-stream init`, run by the same user, grants {READER} to it.")
    return SettingsError(f"{where} does not let {engine.url.username or 'us'} in: {words}.")
