"""Private servers for tests: an embedded stack on free ports, its state in a folder of the test's own."""

import psycopg
import pytest
from psycopg import sql

from retail_stream.embedded.settings import Ports
from retail_stream.embedded.stack import Stack
from retail_stream.initialise import InitSettings, initialise
from retail_stream.settings import Connections


def private_stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack to enter; whoever kills one of its servers starts it again."""
    home = tmp_path_factory.mktemp("stack")
    # When the tests run as root, Postgres runs as another user, who has to get through.
    for folder in (home, *home.parents):
        if folder.name.startswith(("stack", "pytest-")):
            folder.chmod(0o711)
    return Stack(home / "state", Ports.free(), restart=False)


def initialised(stack: Stack) -> Connections:
    """Create topics, schemas and tables on a stack, and say where its servers are."""
    variables = {name.lower(): value for name, value in stack.env.items()}
    initialise(InitSettings(**variables))
    return Connections(**variables)


def drop_database(admin: psycopg.Connection, name: str) -> None:
    """Drop a database and disconnect whoever still uses it.

    Not ``WITH (FORCE)``, which fails when autovacuum, a superuser, is in there; a plain DROP sends that away.
    """
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user", [name]
    )
    admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
