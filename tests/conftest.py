"""Real servers for the tests that need them: a private embedded stack for a session, on free ports."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine

from retail_stream import postgres
from retail_stream.embedded.settings import Ports
from retail_stream.embedded.stack import Stack
from retail_stream.initialise import InitSettings, initialise, migrate
from retail_stream.settings import Connections


def pytest_report_header() -> str:
    return "servers: the embedded Kafka, schema registry and Postgres"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The three servers; whoever kills one starts it again and waits until it is ready."""
    home = tmp_path_factory.mktemp("stack")
    # Postgres runs as another user when the tests run as root.
    for folder in (home, *home.parents[:3]):
        if folder.owner() and folder.name.startswith(("stack", "pytest")):
            folder.chmod(0o711)
    with Stack(home / "state", Ports.free(), restart=False) as running:
        yield running


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> str:
    """Bootstrap servers."""
    return stack.env["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.fixture(scope="session")
def initialised(stack: Stack) -> Connections:
    """Topics, schemas and tables are there, in the stack's own database."""
    settings = InitSettings(**{name.lower(): value for name, value in stack.env.items()})
    initialise(settings)
    return Connections(**{name: getattr(settings, name) for name in Connections.model_fields})


@pytest.fixture
def connections(initialised: Connections) -> Iterator[Connections]:
    """The session's topics and a database of the test's own, migrated."""
    server, _, _ = initialised.database_url.rpartition("/")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(initialised.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        mine = initialised.model_copy(update={"database_url": f"{server}/{name}"})
        migrate(mine)
        yield mine
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def warehouse(connections: Connections) -> Iterator[Engine]:
    """The test's own database."""
    engine = postgres.engine(connections.database_url)
    yield engine
    engine.dispose()
