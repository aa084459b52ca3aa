"""Private servers for tests, their state in a folder of the test's own.

``RETAIL_STREAM_TEST_SERVERS`` says which: ``embedded`` (the default), or ``containers`` of docker-compose.yml.
"""

import os
from contextlib import AbstractContextManager
from typing import Protocol

import psycopg
import pytest
from psycopg import sql

from retail_stream.embedded.servers import Server
from retail_stream.embedded.settings import Ports
from retail_stream.embedded.stack import Stack
from retail_stream.initialise import InitSettings, initialise
from retail_stream.settings import Connections

_CHOICES = ("embedded", "containers")
CHOSEN = os.environ.get("RETAIL_STREAM_TEST_SERVERS", "embedded")
if CHOSEN not in _CHOICES:
    raise pytest.UsageError(f"RETAIL_STREAM_TEST_SERVERS={CHOSEN!r}: allowed: {', '.join(_CHOICES)}.")
CONTAINERS = CHOSEN == "containers"


class Servers(Protocol):
    """A broker, a registry and Postgres; ``env``: the three variables that services are configured with."""

    @property
    def env(self) -> dict[str, str]: ...

    def kill(self, server: Server) -> None: ...

    def start(self, server: Server) -> None: ...

    def wait_ready(self, server: Server) -> None: ...


def private_stack(tmp_path_factory: pytest.TempPathFactory) -> AbstractContextManager[Servers]:
    """Servers to enter; whoever kills one of them starts it again."""
    home = tmp_path_factory.mktemp("stack")
    if CONTAINERS:
        from .containers import ContainerServers

        return ContainerServers(home)
    # When the tests run as root, Postgres runs as another user, who has to get through.
    for folder in (home, *home.parents):
        if folder.name.startswith(("stack", "pytest-", "popen-")):
            folder.chmod(0o711)
    return Stack(home / "state", Ports.free(), restart=False)


def initialised(stack: Servers) -> Connections:
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
