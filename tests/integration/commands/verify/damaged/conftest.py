"""A pipeline that has run to its end, with something of everything; the files of this folder share it."""

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from commands.demo.pipeline import Pipeline, Service
from commands.dlq import load as dead_letters
from commands.embedded.processes import ProcessGroup
from commands.verify import compare
from retail_stream.settings import Connections
from tests.harness.drain import PATIENCE_S, drain
from tests.harness.eventually import eventually
from tests.harness.servers import connections_of, odd_defaults
from tests.integration.commands.verify import streams
from tests.integration.commands.verify.damaged.checking import connected

if TYPE_CHECKING:
    from tests.conftest import Shared

SETTINGS = {
    "GENERATOR_SEED": "7",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "1500",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "GENERATOR_FAULT_CORRUPT_BYTES": "0.02",
    "GENERATOR_EVOLVE_AFTER_S": "20",
    "LATENCY_MAX_S": "1200",
    "SALES_WINDOWS": "5s,15s/5s",
    "ALLOWED_LATENESS_S": "600",
    "IDLE_TIMEOUT_S": "1",
}


@pytest.fixture(scope="package")
def done(shared: "Shared", tmp_path_factory: pytest.TempPathFactory) -> Connections:
    """Servers on which the services have run to the end of two bounded streams; only the servers still run.

    The second stream comes when all partitions are idle: they wake, and windows that have fired are revised.
    """
    stack = shared.take()
    connections = connections_of(stack)
    odd_defaults(connections)
    with ProcessGroup() as group:
        pipeline = Pipeline(group, {**stack.env, **SETTINGS}, tmp_path_factory.mktemp("logs"))
        for service in Service:
            pipeline.start(service)
        drain(pipeline, connections)
        eventually(lambda: _is_idle(connections), "all partitions are idle", PATIENCE_S)
        # Or, on a slow machine, they would be idle again before the end: much of the watermark is not compared then.
        assert pipeline.stop(Service.AGGREGATOR) == 0
        pipeline.start(Service.AGGREGATOR, IDLE_TIMEOUT_S="600")
        streams.publish_more(connections)
        drain(pipeline, connections)
        for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR):
            assert pipeline.stop(service) == 0, pipeline.log(service).read_text()[-2000:]
    assert dead_letters.load(connections) > 0
    assert dead_letters.load(connections) == 0, "each letter once"
    return connections


def _is_idle(connections: Connections) -> bool:
    with connected(connections) as connection:
        return connection.execute(text("SELECT advanced_at IS NOT NULL FROM stream_watermark")).scalar_one()


@pytest.fixture(autouse=True)
def all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MAX_EXAMPLES", 100_000)
