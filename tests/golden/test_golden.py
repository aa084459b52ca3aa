"""Small topics whose warehouses were computed by hand: services and `verify` must both arrive there."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from commands.audit import engine as duck
from commands.audit.engine import Engine
from commands.progress import Shown
from commands.status import status
from commands.verify import compare as verify_compare
from commands.verify import run as verify
from commands.verify.load import gather
from commands.verify.report import Check
from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.warehouse import postgres
from tests.golden import tables
from tests.golden.cases import load
from tests.golden.mutants import CLEANER, ROUNDS, Mutant, mistaken
from tests.golden.published import Name, Place, publish
from tests.golden.running import SETTINGS, fill
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import Servers, connections_of, own_database
from tests.harness.services import Services

CASES = load()


@pytest.fixture(autouse=True)
def all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_compare, "MAX_EXAMPLES", 1000)


@pytest.fixture(scope="module")
def connections(empty_stack: Servers) -> Connections:
    """Servers on which the services have read all cases; only the servers still run."""
    return connections_of(empty_stack)


@pytest.fixture(scope="module")
def places(
    empty_stack: Servers, connections: Connections, tmp_path_factory: pytest.TempPathFactory
) -> dict[Name, Place]:
    """Where the raw records are; the services have read all of them."""
    places = publish(connections, CASES)
    engine = postgres.engine(connections.database_url)
    with Services({**empty_stack.env, **SETTINGS}, tmp_path_factory.mktemp("logs") / "log") as services:
        for name in ("cleaner", "scd_merger", "aggregator"):
            services.start(name)
        # A broker that has just begun may still look for the groups' coordinator.
        eventually(
            lambda: status.look(engine, connections).drained,
            services.log,
            PATIENCE_S,
            every_s=0.3,
            retry_on=Unavailable,
        )
        assert [service.stop() for service in services.started] == [0, 0, 0]
    engine.dispose()
    return places


@pytest.fixture(scope="module")
def recomputed(
    connections: Connections, places: dict[Name, Place], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, list[Check]]]:
    """The tables of a run of `verify`, and its lines."""
    engine = duck.connect(Path(tmp_path_factory.mktemp("duckdb")))
    with Shown("verify") as progress:
        yield engine, list(verify.compare(engine, gather(connections, engine, progress, {})))
    engine.close()


def test_there_are_cases_of_everything() -> None:
    assert len(CASES) >= 10
    assert {name for case in CASES for name, table in case.expected.items() if table.rows} >= set(tables.IDS) | {
        "late_sales",
        "sales.dlq",
        "sales.clean",
        "customers.clean",
    }


def test_services_arrive_at_the_golden_tables(connections: Connections, places: dict[Name, Place]) -> None:
    assert tables.differences(CASES, places, tables.of_services(connections)) == {}


def test_verify_arrives_at_the_golden_tables(recomputed: tuple[Engine, list[Check]], places: dict[Name, Place]) -> None:
    engine, _ = recomputed
    assert tables.differences(CASES, places, tables.of_verify(engine)) == {}


def test_verify_is_green(recomputed: tuple[Engine, list[Check]]) -> None:
    _, checks = recomputed
    assert red(checks) == {}


def red(checks: Iterable[Check]) -> dict[str, tuple[str, ...]]:
    """The lines that did not pass, with their examples."""
    return {c.name: c.examples for c in checks if not c.ok}


@pytest.mark.parametrize("mutants", ROUNDS, ids=["first", "second"])
def test_verify_names_every_mistake_of_a_merger_and_an_aggregator(
    connections: Connections, places: dict[Name, Place], mutants: tuple[Mutant, ...]
) -> None:
    """They fill a warehouse of their own from the clean topics."""
    with own_database(connections) as mine:
        with mistaken(mutants):
            fill(mine)
        wrong = red(verify.run(mine).checks)
    assert [m.name for m in mutants if not m.is_named(wrong)] == [], wrong


def test_verify_names_every_mistake_of_a_cleaner(
    empty_stack: Servers, connections: Connections, places: dict[Name, Place], tmp_path: Path
) -> None:
    """It reads all cases once more."""
    publish(connections, CASES)
    engine = postgres.engine(connections.database_url)
    with Services(empty_stack.env, tmp_path / "log") as services, own_database(connections) as mine:
        services.start("tests.golden.mutants")
        eventually(lambda: status.look(engine, connections).lag[Group.CLEANER] == 0, services.log, PATIENCE_S)
        assert services.started[0].stop() == 0
        wrong = red(verify.run(mine).checks)
    engine.dispose()
    assert [m.name for m in CLEANER if not m.is_named(wrong)] == [], wrong
