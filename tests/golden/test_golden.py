"""Small topics whose warehouses were computed by hand: services and `verify` must both arrive there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.audit import engine as duck
from commands.audit.engine import Engine
from commands.progress import Shown
from commands.status import status
from commands.verify.load import gather
from commands.verify.report import Check
from commands.verify.run import compare
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.golden import tables
from tests.golden.cases import load
from tests.golden.published import Name, Place, publish
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import Servers, connections_of
from tests.harness.services import Services

#: Nothing is idle before all is read, so watermarks come from the sales only.
SETTINGS = {
    "SALES_WINDOWS": "1m,2m/1m",
    "WATERMARK_DELAY_S": "10",
    "ALLOWED_LATENESS_S": "60",
    "IDLE_TIMEOUT_S": "3600",
}
CASES = load()


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
        eventually(lambda: status.look(engine, connections).drained, services.log, PATIENCE_S, every_s=0.3)
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
        yield engine, list(compare(engine, gather(connections, engine, progress)))
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
    assert [(c.name, c.examples) for c in checks if not c.ok] == []
