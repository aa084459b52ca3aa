"""The whole pipeline as processes, on a private embedded stack with topics and a warehouse of its own."""

import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.status.status import Status, look
from retail_stream.settings import Connections
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import Servers, connections_of

#: Four times the usual; GENERATOR_SALES_PER_S and GENERATOR_CHANGES_PER_S in the environment choose others.
#: The longer a machine takes for a test, the more records are there at the end. `verify` reads them within minutes.
RATES = {
    name: os.environ.get(name, rate)
    for name, rate in {"GENERATOR_SALES_PER_S": "200", "GENERATOR_CHANGES_PER_S": "20"}.items()
}


class Running:
    """A running pipeline and the handles that tests look at it with."""

    def __init__(
        self, stack: Servers, pipeline: Pipeline, connections: Connections, twin: Callable[[str], Pipeline]
    ) -> None:
        """``twin``: makes a second set of services on the same servers, none of them started, with a name for logs."""
        self.twin = twin
        self.stack = stack
        self.pipeline = pipeline
        self.connections = connections
        self.warehouse: Engine = postgres.engine(connections.database_url)

    def status(self) -> Status:
        return wait_for(lambda: look(self.warehouse, self.connections), patience_s=120)

    def until(self, holds: Callable[[Status], bool], what: str, within_s: float = PATIENCE_S) -> Status:
        """Wait for a status that ``holds``, and return it; fails with ``what`` and the last status."""

        def look_again() -> Status | None:
            self.all_run()
            self.last = self.status()
            return self.last if holds(self.last) else None

        # To look costs a tenth of a second of the machine on which all services run.
        found = eventually(look_again, lambda: f"{what}; {self.last}", within_s, every_s=0.5)
        assert found is not None
        return found

    def meanwhile(self, condition: Callable[..., bool], what: str, within_s: float = PATIENCE_S) -> None:
        """Wait for a condition that costs little, while all services run."""
        eventually(lambda: self.all_run() and condition(), lambda: f"{what}; {self.status()}", within_s)

    def all_run(self) -> bool:
        """Fail if a service has ended by itself."""
        dead = self.pipeline.dead()
        assert not dead, f"{dead} ended by itself: {[self.pipeline.processes[s].last_lines(20) for s in dead]}"
        return True

    def flows_on(self, within_s: float = PATIENCE_S) -> Status:
        """Every part of the pipeline has taken in something new: records, facts, versions."""
        was = self.status()
        return self.until(
            lambda s: s.produced > was.produced and s.facts > was.facts and s.versions > was.versions,
            "the pipeline flows on",
            within_s,
        )

    def drain(self) -> Status:
        """Stop the generator and wait for what is on its way."""
        assert self.pipeline.stop(Service.GENERATOR) == 0
        del self.pipeline.processes[Service.GENERATOR]
        return self.until(lambda s: s.drained, "the pipeline drains")


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Topics, tables and four services, the generator at RATES, all else as the SETTINGS of the module say, if any."""
    connections = connections_of(empty_stack)
    with ProcessGroup() as group:
        env = {**empty_stack.env, **RATES, **getattr(request.module, "SETTINGS", {})}
        logs = tmp_path_factory.mktemp("logs")
        pipeline = Pipeline(group, env, logs)
        for service in Service:
            pipeline.start(service)
        running = Running(empty_stack, pipeline, connections, lambda name: Pipeline(group, env, logs / name))
        running.until(lambda s: s.facts > 0 and s.versions > 0, "the first facts and versions arrive")
        yield running
        running.warehouse.dispose()
