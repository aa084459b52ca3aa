"""The whole of docker-compose.yml, built and brought up once, with two replicas of every service that can have them."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text

from commands.status.status import Status, look
from commands.verify.report import Report
from commands.verify.run import run
from retail_stream.kafka import clients
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from tests.harness.containers import Project
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import connections_of

#: They must be found nowhere but where they are needed, and may hold what means something in a URL.
SECRETS = {"POSTGRES_PASSWORD": "w@rehouse/secret%of-the-test", "REGISTRY_PASSWORD": "reg@stry/secret%of-the-test"}
SETTINGS = {**SECRETS, "GENERATOR_SALES_PER_S": "100", "GENERATOR_CHANGES_PER_S": "10", "IDLE_TIMEOUT_S": "5"}
SCALED = {"cleaner": 2, "scd_merger": 2, "aggregator": 2}


class Whole:
    """The running project and the handles that tests look at it with, from this machine."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.connections = connections_of(project)
        self.warehouse: Engine = postgres.engine(self.connections.database_url)

    def up(self, **scale: int) -> None:
        """Everything that is not up, and healthy when it returns."""
        replicas = [f"--scale={service}={n}" for service, n in {**SCALED, **scale}.items()]
        self.project("up", "--detach", "--wait", "--no-build", *replicas)

    def again(self, part: str) -> None:
        """Bring up one part that was killed, and nothing else, until it is healthy."""
        replicas = [f"--scale={part}={SCALED[part]}"] if part in SCALED else []
        self.project("up", "--detach", "--wait", "--no-build", "--no-deps", "--no-recreate", *replicas, part)

    def positions(self) -> dict[tuple[str, str, int], int]:
        """How far each partition that anything came of has been consumed."""
        with self.warehouse.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT consumer_group, topic, partition, next_offset FROM consumer_positions WHERE next_offset > 0"
                )
            )
            return {(group, topic, partition): offset for group, topic, partition, offset in rows}

    def status(self) -> Status:
        return wait_for(lambda: look(self.warehouse, self.connections), patience_s=120)

    def until(self, holds: Callable[[Status], bool], what: str, within_s: float = PATIENCE_S) -> Status:
        """Look again and again until ``holds``; fails with ``what``, the last status and logs after ``within_s``."""

        def look_again() -> Status | None:
            self.last = self.status()
            return self.last if holds(self.last) else None

        found = eventually(look_again, lambda: f"{what}; {self.last}\n{self.project.logs()}", within_s, every_s=0.5)
        assert found is not None
        return found

    def flows_on(self) -> None:
        """Every part of the pipeline has taken in something new: records, facts, versions."""
        was = self.status()
        self.until(
            lambda s: s.produced > was.produced and s.facts > was.facts and s.versions > was.versions,
            "the pipeline flows on",
        )

    def in_sync(self, within_s: float = PATIENCE_S) -> None:
        """Every replica of every partition has what its leader has."""
        admin = clients.admin(self.connections)

        def behind() -> list[str]:
            return [
                f"{name}/{p.id}"
                for name, topic in admin.list_topics(timeout=10).topics.items()
                for p in topic.partitions.values()
                if len(p.isrs) < len(p.replicas)
            ]

        eventually(lambda: not behind(), lambda: f"in sync; behind are {behind()}", within_s, every_s=0.5)

    def verify(self) -> Report:
        return run(self.connections)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    project = Project(tmp_path_factory.mktemp("compose"), SETTINGS)
    project("build")
    with project.here():
        running = Whole(project)
        running.up()
        running.until(lambda s: s.facts > 0 and s.versions > 0, "the first facts and versions arrive")
        yield running
        running.warehouse.dispose()
