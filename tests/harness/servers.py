"""Private servers for tests, their state in a folder of the test's own.

``RETAIL_STREAM_TEST_SERVERS`` says which: ``embedded`` (the default), or ``containers`` of docker-compose.yml.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import quote

import httpx2 as httpx
import psycopg
import pytest
from psycopg import sql

from commands.embedded.servers import Server
from commands.embedded.settings import Ports
from commands.embedded.stack import Stack
from commands.init import InitSettings, initialise
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.warehouse import ids
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.groups import remove_members

_CHOICES = ("embedded", "containers")
CHOSEN = os.environ.get("RETAIL_STREAM_TEST_SERVERS", "embedded")
if CHOSEN not in _CHOICES:
    raise pytest.UsageError(f"RETAIL_STREAM_TEST_SERVERS={CHOSEN!r}: allowed: {', '.join(_CHOICES)}.")
CONTAINERS = CHOSEN == "containers"
#: What each wait for a killed member of a group takes. A third of the default; a busy machine pauses workers for less.
SESSION_TIMEOUT_S = 3.0

#: A database that holds the tables as `init` makes them, and no session.
_EMPTY = sql.Identifier("empty_warehouse")


class Servers(Protocol):
    """A broker, a registry and Postgres; ``env``: the three variables that services are configured with."""

    @property
    def env(self) -> dict[str, str]: ...

    def kill(self, server: Server) -> None: ...

    def start(self, server: Server) -> None: ...

    def wait_ready(self, server: Server) -> None: ...


@contextmanager
def private_stack() -> Iterator[Servers]:
    """New servers, their state in a folder that is deleted at the end; a test that kills one starts it again."""
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


class Configured(Protocol):
    """Anything with the environment variables that say where its servers are."""

    @property
    def env(self) -> dict[str, str]: ...


def connections_of(stack: Configured) -> Connections:
    """Where the servers of a stack are."""
    return Connections.model_validate({**_fields(stack), "kafka_session_timeout_s": SESSION_TIMEOUT_S})


def init_settings_of(stack: Configured) -> InitSettings:
    """The same for `init`."""
    return InitSettings.model_validate(_fields(stack))


def initialised(stack: Servers) -> Connections:
    """Run `init` on a new stack, and keep a copy of its empty tables, which `own_database` copies."""
    # A registry that has just started answers its first requests after seconds, on a busy machine after a minute.
    initialise(init_settings_of(stack), patience_s=PATIENCE_S)
    connections = connections_of(stack)
    with _admin(connections) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(_EMPTY, sql.Identifier(_name(connections))))
    return connections


def emptied(stack: Servers) -> Connections:
    """Bring an initialised stack back to where `initialised` left it."""
    connections = _without_topics(stack)
    replace_database(connections)
    initialise(init_settings_of(stack))
    return connections


def bare(stack: Servers) -> Connections:
    """Bring an initialised stack back to before `init`: no topics, no schemas, a database without tables."""
    connections = _without_topics(stack)
    drop_database(connections)
    with _admin(connections) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_name(connections))))
    return connections


def _without_topics(stack: Servers) -> Connections:
    """Delete all topics, and all schemas of the registry."""
    connections = connections_of(stack)
    admin = clients.admin(connections)
    remove_members(admin, connections.kafka_bootstrap_servers)
    there = [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]
    for deleted in admin.delete_topics(there).values() if there else ():
        deleted.result(30)
    # Offsets of deleted topics go with them.
    eventually(lambda: not {*there} & {*admin.list_topics(timeout=10).topics}, "all topics are gone")
    _forget_schemas(connections.schema_registry_url)
    return connections


def _forget_schemas(url: str) -> None:
    """Delete all subjects: with another team's schemas among its versions, a subject takes none of the next test's."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as registry:

        def is_empty() -> bool:
            subjects = registry.get("/subjects").raise_for_status().json()
            for subject in subjects:
                # Refused as long as another refers to it, and that does until it is deleted for good.
                for how in ({}, {"permanent": "true"}):
                    registry.delete(f"/subjects/{quote(subject, safe='')}", params=how)
            return not subjects

        eventually(is_empty, "the registry is empty")


@contextmanager
def own_database(connections: Connections, prefix: str = "test") -> Iterator[Connections]:
    """The same servers with a new database in which `init` has made the tables."""
    server, _, _ = connections.database_url.rpartition("/")
    mine = connections.model_copy(update={"database_url": f"{server}/{prefix}_{uuid.uuid4().hex[:12]}"})
    _make_tables(mine)
    yield mine
    drop_database(mine)


@contextmanager
def copied_database(connections: Connections) -> Iterator[Connections]:
    """The same servers with a copy of the database, for a test that damages it; no session may use the original."""
    server, _, _ = connections.database_url.rpartition("/")
    copy = connections.model_copy(update={"database_url": f"{server}/copy_{uuid.uuid4().hex[:12]}"})
    with _admin(connections) as admin:
        names = sql.Identifier(_name(copy)), sql.Identifier(_name(connections))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    yield copy
    drop_database(copy)


def restored_from(connections: Connections, backup: Connections) -> None:
    """Replace the database of ``connections`` by a copy of ``backup``, as a restore does; sessions of both end."""
    names = sql.Identifier(_name(connections)), sql.Identifier(_name(backup))
    with _admin(connections) as admin:
        # Services that run come back at once.
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(names[0]))
    drop_database(connections)
    with _admin(connections) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))


#: What no result may depend on, as every session of ours chooses for itself.
ODD_DEFAULTS = {
    "DateStyle": "German, DMY",
    "TimeZone": "America/St_Johns",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "statement_timeout": "50ms",
    "lock_timeout": "1ms",
}


def odd_defaults(connections: Connections) -> None:
    """Give the database of ``connections`` defaults as an administrator may have chosen them for other users."""
    with _admin(connections) as admin:
        for name, value in ODD_DEFAULTS.items():
            change = sql.SQL("ALTER DATABASE {} SET {} TO {}")
            # A list of schemas and a date style are lists of words; the other values may be quoted, too.
            words = sql.SQL(", ").join(sql.Literal(word) for word in value.split(", "))
            admin.execute(change.format(sql.Identifier(_name(connections)), sql.Identifier(name), words))


def replace_database(connections: Connections) -> None:
    """Replace the database of ``connections`` by one with empty tables."""
    drop_database(connections)
    _make_tables(connections)


def _make_tables(connections: Connections) -> None:
    with _admin(connections) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(_name(connections)), _EMPTY))
    # Two warehouses never share this: it tells apart what they published.
    with psycopg.connect(connections.database_url, autocommit=True) as copy:
        copy.execute(f"UPDATE pipeline.warehouse_id SET id = {ids.NEW}".encode())


def _admin(connections: Connections) -> psycopg.Connection:
    server, _, _ = connections.database_url.rpartition("/")
    return psycopg.connect(f"{server}/postgres", autocommit=True)


def _name(connections: Connections) -> str:
    return connections.database_url.rpartition("/")[2]


def _fields(stack: Configured) -> dict[str, str]:
    return {name.lower(): value for name, value in stack.env.items()}


def drop_database(connections: Connections) -> None:
    """Drop the database of ``connections`` and end the sessions that still use it.

    Not ``WITH (FORCE)``: it fails while autovacuum, a superuser's process, is in there; a plain DROP sends that away.
    """
    name = _name(connections)
    with _admin(connections) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user",
            [name],
        )
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def drop_registry_database(connections: Connections) -> None:
    """Replace what the embedded registry has stored by an empty database. It must not run."""
    server, _, _ = connections.database_url.rpartition("/")
    registry = connections.model_copy(update={"database_url": f"{server}/registry"})
    drop_database(registry)
    with _admin(registry) as admin:
        admin.execute("CREATE DATABASE registry")
