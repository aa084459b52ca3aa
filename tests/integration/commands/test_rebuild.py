"""`rebuild` under services that run, and servers that lost their data: `verify` is green. One story."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from commands import rebuild
from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import Server
from commands.init import initialise
from commands.verify.run import run as verify
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.drain import drain
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import (
    CONTAINERS,
    Servers,
    connections_of,
    copied_database,
    drop_registry_database,
    init_settings_of,
    restored_from,
)
from tests.integration.commands.rebuilding import (
    command,
    contents,
    made_again,
    red,
    schema_ids,
    waits_for_a_rebuild,
    warehouse_id,
)

SETTINGS = {
    "GENERATOR_SEED": "11",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "1200",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "ALLOWED_LATENESS_S": "5",
}
OTHER = {"SALES_WINDOWS": "5m/1m,1h", "ALLOWED_LATENESS_S": "120"}
#: Tables that a rebuild does not empty.
KEPT = {
    "aggregations",
    "alembic_version",
    "consumer_positions",
    "fact_partitions",
    "forgotten",
    "kept_since",
    "partition_watermarks",
    "stored_settings",
    "stream_watermark",
    "warehouse_id",
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


def test_services_that_run_fill_an_emptied_warehouse_again(pipeline, connections, warehouse):
    before, old_id = contents(warehouse), warehouse_id(warehouse)
    assert all(before.values())
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE fact_sales SET total_amount = total_amount + 1"))
    result = command(connections, "--yes")
    assert result.exit_code == 0, result.output
    assert " of customers.clean, " in result.output
    drain(pipeline, connections)
    assert contents(warehouse) == before
    # A new one, which is sorted behind the old one, as it begins with the time.
    assert warehouse_id(warehouse) > old_id
    assert red(connections) == {}


def test_every_table_is_emptied_but_those_that_a_rebuild_begins_anew(pipeline, warehouse):
    query = """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_|^information_schema$'
    """
    with warehouse.connect() as connection:
        there = set(connection.execute(text(query)).scalars())
    assert there == KEPT | {*rebuild.EMPTIED, "sales_by_window", "sales_by_product_window"}


def test_other_windows_need_an_aggregator_that_does_not_run(pipeline, connections, warehouse):
    before = contents(warehouse)
    result = command(connections, "--yes", SALES_WINDOWS="5m/1m")
    assert result.exit_code == 1
    assert "an aggregator runs with '1m'; stop it" in result.stderr
    assert contents(warehouse) == before


def test_other_windows_and_another_lateness_after_a_rebuild(pipeline, connections, warehouse):
    assert pipeline.stop(Service.AGGREGATOR) == 0
    result = command(connections, "--yes", **OTHER)
    assert result.exit_code == 0, result.output
    assert "SALES_WINDOWS was '1m'. Start the aggregator with SALES_WINDOWS=5m/1m,1h next." in result.output
    pipeline.start(Service.AGGREGATOR, **OTHER)
    drain(pipeline, connections)
    with warehouse.connect() as connection:
        sizes = connection.execute(text("SELECT DISTINCT window_size::text FROM sales_by_window ORDER BY 1")).scalars()
        assert list(sizes) == ["00:05:00", "01:00:00"]
    assert red(connections) == {}


def test_without_a_terminal_it_needs_yes(pipeline, connections, warehouse):
    before = contents(warehouse)
    result = command(connections)
    assert result.exit_code == 2
    assert "needs --yes" in result.stderr
    assert contents(warehouse) == before


@pytest.mark.long
def test_topics_that_are_made_again_stop_their_readers_until_a_rebuild(pipeline, connections, warehouse, empty_stack):
    before = contents(warehouse)
    # While its reader is stopped, and while it runs.
    assert pipeline.stop(Service.SCD_MERGER) == 0
    made_again(empty_stack, connections, topics.clean(Entity.STORES))
    pipeline.start(Service.SCD_MERGER)
    waits_for_a_rebuild(pipeline, Service.SCD_MERGER, "stores.clean")
    # Without its state, the generator would not go on beside an empty topic.
    made_again(empty_stack, connections, topics.raw(Entity.SALES), topics.Result.STATE)
    pipeline.start(Service.GENERATOR, GENERATOR_START_TIME="2026-03-01T20:00:00Z")
    waits_for_a_rebuild(pipeline, Service.AGGREGATOR, "sales.raw")
    assert contents(warehouse) == before, "new records are not taken for repeats, nor is anything else stored"
    eventually(lambda: pipeline.dead() == {Service.GENERATOR: 0}, "the generator has published its sales")
    said = pipeline.log(Service.CLEANER)
    # By its group's offsets, which go with the topic, or by the end of the partition, whichever it sees first.
    goes_on = r"sales\.raw/\d was read up to offset [\d,]+ and (its group has no offset of it now|goes on at [\d,]+: )"
    eventually(lambda: re.search(goes_on, said.read_text()), lambda: said.read_text()[-3000:])
    named = red(connections)["topics_read"]
    assert set(re.findall(r"\w+\.(?:raw|clean)", named)) == {"sales.raw", "stores.clean"}, named

    refused = command(connections, "--yes")
    assert refused.exit_code == 1
    assert "made again, so the clean topics do not hold what the raw ones hold" in refused.stderr
    refused = command(connections, "--yes", "--from-raw")
    assert refused.exit_code == 1
    assert "A cleaner runs; stop it" in refused.stderr
    assert contents(warehouse) == before
    assert pipeline.stop(Service.CLEANER) == 0
    result = command(connections, "--yes", "--from-raw")
    assert result.exit_code == 0, result.output
    assert " of sales.raw" in result.output
    pipeline.start(Service.CLEANER)
    drain(pipeline, connections)
    assert contents(warehouse)["facts"] != before["facts"]
    report = verify(connections)
    assert [check.name for check in report.failed] == []
    # Of logs that were cut by age a run compares a part, and says so in a line of its own.
    assert {"sales.windows", "late_sales", "sales_enriched"} <= {check.name for check in report.checks}
    assert not any(check.name.startswith("published since") for check in report.checks)


@pytest.mark.long
def test_a_backup_that_is_restored_beside_newer_topics_is_noticed_and_rebuilt(pipeline, connections, warehouse):
    for service in (Service.SCD_MERGER, Service.AGGREGATOR):
        assert pipeline.stop(service) == 0
    before = contents(warehouse)
    warehouse.dispose()
    with copied_database(connections) as backup:
        pipeline.start(Service.SCD_MERGER)
        pipeline.start(Service.AGGREGATOR, **OTHER)
        pipeline.start(Service.GENERATOR, GENERATOR_START_TIME="2026-03-02T20:00:00Z")
        drain(pipeline, connections)
        newer = contents(warehouse)
        assert newer["facts"] != before["facts"]
        # The services run on: their sessions end, and they are ahead of what is stored.
        warehouse.dispose()
        restored_from(connections, backup)
    log = pipeline.log(Service.AGGREGATOR)
    eventually(lambda: "The warehouse was restored from a backup" in log.read_text(), lambda: log.read_text()[-3000:])
    assert command(connections, "--yes").exit_code == 0
    drain(pipeline, connections)
    assert contents(warehouse)["facts"] == newer["facts"]
    assert red(connections) == {}


@pytest.mark.long
@pytest.mark.skipif(CONTAINERS, reason="the registry's role there owns its database")
def test_a_registry_that_lost_its_schemas_gets_them_again_with_their_ids(pipeline, connections, warehouse, empty_stack):
    before, ids = contents(warehouse), schema_ids(connections)
    assert pipeline.stop(Service.CLEANER) == 0
    empty_stack.kill(Server.REGISTRY)
    drop_registry_database(connections)
    empty_stack.start(Server.REGISTRY)
    empty_stack.wait_ready(Server.REGISTRY)
    # Before any producer: each id that is given goes to who asks first.
    initialise(init_settings_of(empty_stack), patience_s=PATIENCE_S)
    assert schema_ids(connections) == ids
    pipeline.start(Service.CLEANER)
    pipeline.start(Service.GENERATOR, GENERATOR_START_TIME="2026-03-03T20:00:00Z")
    drain(pipeline, connections)
    assert contents(warehouse)["facts"] != before["facts"]
    # Among others, that no dead letter says "not registered".
    assert red(connections) == {}
