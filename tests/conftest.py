"""The servers that tests share, the databases that they have of their own, and the order in which they run."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from xdist.scheduler import LoadScopeScheduling

from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness import servers
from tests.harness.servers import Servers, private_stack

TESTS = Path(__file__).parent
#: Those that take longest begin first, so that no worker is left alone with one of them at the end.
ORDER = ("system", "compose", "golden", "integration", "unit")
#: What shares something that takes long to make: a folder one pipeline, a file of `unit` a retailer.
TOGETHER = ("tests/integration/commands/verify/damaged/", "tests/unit/services/generator/retailer/test_consistency.py")

# Tests start services hundreds of times: each would compile all its packages again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# For every service that a test starts: the partitions of a killed one go to others after this, instead of ten seconds.
os.environ["KAFKA_SESSION_TIMEOUT_S"] = str(servers.SESSION_TIMEOUT_S)

# A test of one kind of servers has nothing to say of the other.
collect_ignore = ["integration/commands/embedded"] if servers.CONTAINERS else ["compose"]


def pytest_report_header() -> str:
    """Say which servers the tests run on."""
    if servers.CONTAINERS:
        return "servers: containers of docker-compose.yml"
    return "servers: the embedded Kafka, schema registry and Postgres; docker-compose.yml: make test-containers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option by which CI runs the long tests in turn."""
    parser.addoption(
        "--long-turn",
        type=_turn,
        metavar="I/N",
        help="of the long tests, run the I-th of N parts only; those of a file that needs servers are in one",
    )


def _turn(value: str) -> tuple[int, int]:
    turn, _, turns = value.partition("/")
    if not (turn.isdigit() and turns.isdigit() and 1 <= int(turn) <= int(turns)):
        raise argparse.ArgumentTypeError(f"{value!r}: allowed: 1/6, 2/6 and the like, up to 6/6")
    return int(turn), int(turns)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the folders as ORDER says, and give tests of the whole pipeline the time of a slow machine."""
    if turn := config.getoption("--long-turn"):
        first, step = turn
        long = [item for item in items if item.get_closest_marker("long")]
        scopes = sorted({_scope(item.nodeid) for item in long})[first - 1 :: step]
        waiting = [item for item in long if _scope(item.nodeid) not in scopes]
        config.hook.pytest_deselected(items=waiting)
        items[:] = [item for item in items if item not in set(waiting)]
    items.sort(key=lambda item: ORDER.index(_folder(item)))
    for item in items:
        if _folder(item) in ("system", "compose") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1200))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _scope(nodeid: str) -> str:
    """What runs together: a test of `unit`, a file that needs servers, as some are one story, what TOGETHER names."""
    alone = nodeid if nodeid.startswith("tests/unit/") else nodeid.partition("::")[0]
    return next((place for place in TOGETHER if nodeid.startswith(place)), alone)


class FilesOrTests(LoadScopeScheduling):
    """Give a worker what runs together."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesOrTests:
    """Distribute work by :class:`FilesOrTests`, whatever `--dist` says."""
    return FilesOrTests(config, log)


@pytest.fixture(autouse=True)
def log_of_its_own() -> Iterator[None]:
    """Take back what commands in this process did to the log: the stream of one that has ended is closed."""
    _take_back()
    yield
    _take_back()


def _take_back() -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest")]
    root.setLevel(logging.WARNING)


class Shared:
    """The servers of a worker, which modules use in turn; they are emptied only where it matters."""

    def __init__(self, stack: Servers) -> None:
        self.stack = stack
        self.is_new, self.was_taken = True, False

    def take(self) -> Servers:
        """Have the servers empty, for a module that does with them what it likes."""
        if not self.is_new:
            servers.emptied(self.stack)
        self.is_new, self.was_taken = False, True
        return self.stack

    def share(self) -> Servers:
        """Have the servers with what earlier tests left, but not what a module left that took them."""
        if self.was_taken:
            servers.emptied(self.stack)
        self.is_new = self.was_taken = False
        return self.stack


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """The servers of this worker, with topics, schemas and tables."""
    with private_stack() as stack:
        servers.initialised(stack)
        yield Shared(stack)


@pytest.fixture(scope="module")
def empty_stack(shared: Shared) -> Servers:
    """Servers with empty topics and tables, which this module has to itself; it may kill them."""
    return shared.take()


@pytest.fixture(scope="module")
def stack(shared: Shared) -> Servers:
    """Servers whose topics hold what earlier tests wrote."""
    return shared.share()


@pytest.fixture(scope="module")
def kafka(stack: Servers) -> str:
    """Bootstrap servers."""
    return stack.env["KAFKA_BOOTSTRAP_SERVERS"]


@pytest.fixture(scope="module")
def initialised(stack: Servers) -> Connections:
    """The stack's own database, and topics that hold what earlier tests wrote."""
    return servers.connections_of(stack)


@pytest.fixture
def connections(initialised: Connections) -> Iterator[Connections]:
    """The shared topics and a database of the test's own, with the tables."""
    with servers.own_database(initialised) as mine:
        yield mine


@pytest.fixture
def warehouse(connections: Connections) -> Iterator[Engine]:
    """The test's own database."""
    engine = postgres.engine(connections.database_url)
    yield engine
    engine.dispose()
