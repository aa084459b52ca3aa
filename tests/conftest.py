"""Real servers for the tests that need them: a private embedded stack for a session, on free ports."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine

from commands.init import migrate
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness import servers
from tests.harness.servers import Servers, private_stack

# What is about one kind of servers has nothing to say of the other.
collect_ignore = ["integration/test_embedded.py"] if servers.CONTAINERS else ["compose"]


def pytest_report_header() -> str:
    if servers.CONTAINERS:
        return "servers: containers of docker-compose.yml"
    return "servers: the embedded Kafka, schema registry and Postgres; docker-compose.yml: make test-containers"


@pytest.fixture(scope="session")
def stack() -> Iterator[Servers]:
    """The three servers that most tests share."""
    with private_stack() as running:
        yield running


@pytest.fixture(scope="session")
def kafka(stack: Servers) -> str:
    """Bootstrap servers."""
    return stack.env["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.fixture(scope="session")
def initialised(stack: Servers) -> Connections:
    """Topics, schemas and tables are there, in the stack's own database."""
    return servers.initialised(stack)


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
        servers.drop_database(admin, name)


@pytest.fixture
def warehouse(connections: Connections) -> Iterator[Engine]:
    """The test's own database."""
    engine = postgres.engine(connections.database_url)
    yield engine
    engine.dispose()
