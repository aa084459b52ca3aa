"""`rebuild` under services that run: they fill the warehouse again, and `verify` is green. One story."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from commands import cli, rebuild
from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.verify.run import verify
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.drain import drain
from tests.harness.servers import Servers, connections_of
from tests.harness.services import servers_of

SETTINGS = {
    "GENERATOR_SEED": "11",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "1200",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "ALLOWED_LATENESS_S": "5",
}
#: Tables that a rebuild does not empty.
KEPT = {
    "alembic_version",
    "consumer_positions",
    "fact_partitions",
    "partition_watermarks",
    "stored_settings",
    "stream_watermark",
    "warehouse_id",
}
CONTENTS = {
    "facts": "SELECT count(*), sum(total_amount), count(DISTINCT transaction_id) FROM fact_sales",
    "versions": "SELECT count(*), sum(price), count(valid_to) FROM dim_products",
    "windows": "SELECT window_size, window_start, sum(net_sales) FROM sales_by_window GROUP BY 1, 2 ORDER BY 1, 2",
}


@pytest.fixture(scope="module")
def pipeline(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline that has drained a bounded stream; all services but the generator run."""
    with ProcessGroup() as group:
        running = Pipeline(group, {**empty_stack.env, **SETTINGS}, tmp_path_factory.mktemp("logs"))
        for service in Service:
            running.start(service)
        drain(running, connections_of(empty_stack))
        yield running


@pytest.fixture(scope="module")
def connections(empty_stack: Servers) -> Connections:
    return connections_of(empty_stack)


@pytest.fixture
def warehouse(connections: Connections) -> Iterator[Engine]:
    engine = postgres.engine(connections.database_url)
    yield engine
    engine.dispose()


def contents(warehouse: Engine) -> dict[str, list[tuple[object, ...]]]:
    with warehouse.connect() as connection:
        return {name: [tuple(r) for r in connection.execute(text(query))] for name, query in CONTENTS.items()}


def command(connections: Connections, *args: str, **env: str) -> Result:
    return CliRunner().invoke(cli.app, ["rebuild", *args], env={**servers_of(connections), **env})


def assert_green(connections: Connections) -> None:
    console = Console(file=io.StringIO(), width=400)
    code = verify(connections, console)
    assert code == 0, console.file.getvalue()  # type: ignore[attr-defined]


def _warehouse_id(warehouse: Engine) -> str:
    with warehouse.connect() as connection:
        return str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())


def test_services_that_run_fill_an_emptied_warehouse_again(pipeline, connections, warehouse):
    before, old_id = contents(warehouse), _warehouse_id(warehouse)
    assert all(before.values())
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE fact_sales SET total_amount = total_amount + 1"))
    result = command(connections, "--yes")
    assert result.exit_code == 0, result.output
    assert " of customers.clean, " in result.output
    drain(pipeline, connections)
    assert contents(warehouse) == before
    assert _warehouse_id(warehouse) != old_id
    assert_green(connections)


def test_every_table_is_emptied_but_those_that_a_rebuild_begins_anew(pipeline, warehouse):
    query = """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_|^information_schema$'
    """
    with warehouse.connect() as connection:
        there = set(connection.execute(text(query)).scalars())
    assert there == KEPT | {*rebuild.EMPTIED}


def test_other_windows_need_an_aggregator_that_does_not_run(pipeline, connections, warehouse):
    before = contents(warehouse)
    result = command(connections, "--yes", SALES_WINDOWS="5m/1m")
    assert result.exit_code == 1
    assert "an aggregator runs with '1m'; stop it" in result.stderr
    assert contents(warehouse) == before


def test_other_windows_and_another_lateness_after_a_rebuild(pipeline, connections, warehouse):
    assert pipeline.stop(Service.AGGREGATOR) == 0
    wanted = {"SALES_WINDOWS": "5m/1m,1h", "ALLOWED_LATENESS_S": "120"}
    result = command(connections, "--yes", **wanted)
    assert result.exit_code == 0, result.output
    assert "SALES_WINDOWS was '1m'. Start the aggregator with SALES_WINDOWS=5m/1m,1h next." in result.output
    pipeline.start(Service.AGGREGATOR, **wanted)
    drain(pipeline, connections)
    with warehouse.connect() as connection:
        sizes = connection.execute(text("SELECT DISTINCT window_size::text FROM sales_by_window ORDER BY 1")).scalars()
        assert list(sizes) == ["00:05:00", "01:00:00"]
    assert_green(connections)


def test_without_a_terminal_it_needs_yes(pipeline, connections, warehouse):
    before = contents(warehouse)
    result = command(connections)
    assert result.exit_code == 2
    assert "needs --yes" in result.stderr
    assert contents(warehouse) == before
