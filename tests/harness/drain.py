"""Waiting until a pipeline whose generator has ended has nothing left to do."""

from collections.abc import Mapping
from pathlib import Path

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.status import status
from retail_stream.settings import Connections
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import Configured, connections_of

PATIENCE_S = 240


def drain(pipeline: Pipeline, connections: Connections) -> None:
    """Wait until lag and outbox are empty; all services but the generator still run."""
    engine = postgres.engine(connections.database_url)

    def now() -> status.Status:
        return wait_for(lambda: status.look(engine, connections), PATIENCE_S)

    def there() -> str:
        logs = {s.value: pipeline.log(s).read_text()[-1000:] for s in Service}
        return f"drained: {now()}, ended: {pipeline.dead()}, {logs}"

    eventually(lambda: pipeline.dead() == {Service.GENERATOR: 0} and now().drained, there, PATIENCE_S, every_s=0.3)
    engine.dispose()


def ran_to_the_end(stack: Configured, settings: Mapping[str, str], logs: Path) -> Connections:
    """Servers on which the services have run to the end of a bounded stream; only the servers still run."""
    connections = connections_of(stack)
    with ProcessGroup() as group:
        pipeline = Pipeline(group, {**stack.env, **settings}, logs)
        for service in Service:
            pipeline.start(service)
        drain(pipeline, connections)
        for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR):
            assert pipeline.stop(service) == 0, pipeline.log(service).read_text()[-2000:]
    return connections
