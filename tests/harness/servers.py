"""Private servers for tests, their state in a folder of the test's own.

``RETAIL_STREAM_TEST_SERVERS`` says which: ``embedded`` (the default), or ``containers`` of docker-compose.yml.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import psycopg
import pytest
from psycopg import sql

from commands.embedded.servers import Server
from commands.embedded.settings import Ports
from commands.embedded.stack import Stack
from commands.init import InitSettings, initialise
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


@contextmanager
def private_stack() -> Iterator[Servers]:
    """Servers with a folder of their own; whoever kills one of them starts it again."""
    # Not in pytest's folder: where the tests run as root, Postgres runs as another user, who has to get through, and
    # each pytest that starts closes that folder to all others again.
    with TemporaryDirectory(prefix="retail-stream-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with _servers(folder) as running:
            yield running


def _servers(folder: Path) -> AbstractContextManager[Servers]:
    if CONTAINERS:
        from tests.harness.containers import ContainerServers

        return ContainerServers(folder)
    return Stack(folder / "state", Ports.free(), restart=False)


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
