"""What the running services say of themselves: ready when it is true, and numbers that are those of the warehouse."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from sqlalchemy import Engine, text

from benchmarks.questions.document import questions
from commands.demo.pipeline import Pipeline, Service
from commands.dlq import load as dead_letters
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import Server
from commands.status.lag import CONSUMES
from commands.status.status import Status, look
from retail_stream.kafka import clients
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from retail_stream.warehouse.roles import READER
from tests.harness import documented, servers
from tests.harness.documented import Documented
from tests.harness.endpoint import Endpoint, free_port
from tests.harness.eventually import eventually

SETTINGS = {
    "GENERATOR_SALES_PER_S": "100",
    "GENERATOR_CHANGES_PER_S": "20",
    "LATENCY_MAX_S": "5",
    "SALES_WINDOWS": "5s",
    "WATERMARK_DELAY_S": "1",
    "ALLOWED_LATENESS_S": "2",
    "IDLE_TIMEOUT_S": "1",
    "LOG_FORMAT": "json",
}
STARTING = (503, "not ready: started\n")
READY = (200, "ready\n")


class Running:
    """The four services on servers of their own."""

    def __init__(self, stack: servers.Servers, group: ProcessGroup, logs: Path) -> None:
        self.stack = stack
        self.connections: Connections = servers.connections_of(stack)
        self.warehouse: Engine = postgres.engine(self.connections.database_url)
        self.pipeline = Pipeline(group, {**stack.env, **SETTINGS}, logs)
        self.at = {service: Endpoint(free_port()) for service in Service}

    def start(self, service: Service, **settings: str) -> None:
        self.pipeline.start(service, METRICS_PORT=str(self.at[service].port), **settings)

    def readiness(self) -> dict[Service, tuple[int, str]]:
        return {service: endpoint.ask("/readyz") for service, endpoint in self.at.items()}

    def all_say(self, **expected: tuple[int, str]) -> None:
        """Wait until every service is ready, but for those ``expected`` to say something else."""
        wanted = {service: expected.get(service, READY) for service in Service}

        eventually(lambda: self.readiness() == wanted, lambda: f"{self.readiness()}, {self.pipeline.dead()}")

    @contextmanager
    def without(self, server: Server) -> Iterator[None]:
        self.stack.kill(server)
        try:
            yield
        finally:
            self.stack.start(server)
            self.stack.wait_ready(server)

    def status(self) -> Status:
        return wait_for(lambda: look(self.warehouse, self.connections), 30)

    def drain(self) -> None:
        """The generator has ended: wait until nothing is on its way."""

        def is_drained() -> bool:
            status = self.status()
            # Every window is closed, too, so that no number moves any more.
            return status.drained and set(status.windows) == {"final"}

        eventually(is_drained, lambda: f"drained, and every window final: {self.status()}", every_s=0.3)


@pytest.fixture(scope="module")
def running(empty_stack: servers.Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ProcessGroup() as group:
        running = Running(empty_stack, group, tmp_path_factory.mktemp("logs"))
        with running.without(Server.REGISTRY):
            for service in Service:
                running.start(service)
            # Alive, and not ready while no schema is known.
            eventually(lambda: all_equal(running.readiness(), STARTING), lambda: f"all start: {running.readiness()}")
            assert {e.ask("/healthz") for e in running.at.values()} == {(200, "ok\n")}
            eventually(lambda: each_log_has(running, "does not answer"), "each says what it waits for")
            assert all_equal(running.readiness(), STARTING)
        running.all_say()
        yield running
        running.warehouse.dispose()


def all_equal(found: dict[Service, tuple[int, str]], expected: tuple[int, str]) -> bool:
    return found == dict.fromkeys(Service, expected)


def each_log_has(running: Running, words: str) -> bool:
    return all(words in running.pipeline.log(s).read_text() for s in Service)


def numbers(running: Running) -> dict[str, float]:
    """What the services count, by the name of what it should equal."""
    cleaner, merger, aggregator = (running.at[service] for service in Service if service is not Service.GENERATOR)
    opened = merger.value("scd_merger_versions_total", outcome="opened")
    vanished = merger.value("scd_merger_versions_total", outcome="vanished")
    return {
        "read": cleaner.value("cleaner_records_in_total"),
        "clean": cleaner.value("cleaner_records_out_total"),
        "dead letters": cleaner.value("cleaner_records_rejected_total"),
        "versions": opened - vanished,
        "facts": aggregator.value("aggregator_facts_total"),
        "late": aggregator.value("aggregator_late_total"),
        **{
            f"{kind} {outcome}": aggregator.value("aggregator_windows_total", kind=kind, outcome=outcome)
            for kind in ("store", "product")
            for outcome in ("fired", "revised", "final")
        },
    }


def facts(running: Running) -> dict[str, float]:
    """The same from topics and warehouse."""
    status = running.status()
    windows: Counter[str] = Counter()
    with running.warehouse.connect() as connection:
        for kind, table in {"store": "sales_by_window", "product": "sales_by_product_window"}.items():
            rows = connection.execute(text(f"SELECT count(*), sum(revision) FROM {table} WHERE state = 'final'")).one()
            windows[f"{kind} fired"] = windows[f"{kind} final"] = rows[0]
            windows[f"{kind} revised"] = rows[1]
        late = sum(1 for _ in read_to_end(running.connections, Result.LATE))
    return {
        "read": status.produced,
        "clean": status.cleaned,
        "dead letters": status.rejected,
        "versions": status.versions,
        "facts": status.facts,
        "late": late,
        **windows,
    }


def test_the_numbers_are_those_of_topics_and_warehouse(running: Running) -> None:
    eventually(lambda: running.at[Service.AGGREGATOR].value("aggregator_facts_total") >= 500, "500 facts")
    published = running.at[Service.GENERATOR].value("generator_records_total")
    assert running.pipeline.stop(Service.GENERATOR) == 0
    running.drain()
    told = numbers(running)
    assert told == facts(running)
    assert told["read"] >= published > 500
    assert told["store fired"] > 10
    assert told["dead letters"] > 0
    for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR):
        lag = running.at[service].families()[f"{service}_lag_records"].samples
        assert {s.value for s in lag} == {0.0}, lag
        assert len(lag) == {Service.CLEANER: 16, Service.SCD_MERGER: 12, Service.AGGREGATOR: 4}[service]
    watermark = running.status().watermark
    assert watermark is not None
    behind = running.at[Service.AGGREGATOR].value("aggregator_watermark_lag_seconds")
    assert behind == pytest.approx(time.time() - watermark.timestamp(), abs=5)
    running.start(Service.GENERATOR)
    running.all_say()


def test_the_questions_of_the_docs_have_answers(running: Running) -> None:
    """docs/questions.md as written, by the analysts' role, over what the services have just made."""
    assert dead_letters.load(running.connections) > 0
    # What a minute of sales may have nothing of: histories of weeks, and products that are bought together.
    of_weeks = {5, 10, 12, 15, 17}
    empty = []
    with running.warehouse.connect() as connection:
        connection.execute(text(f"SET ROLE {READER}"))
        for number, question in enumerate(questions(), 1):
            assert question.title.startswith(f"{number}. ")
            if not connection.exec_driver_sql(question.sql).all():
                empty.append(number)
    assert number == 20
    assert {*empty} <= of_weeks, empty


def test_the_services_have_the_metrics_that_the_docs_list_and_no_others(running: Running) -> None:
    """So every alert and every panel has its metric: a unit test holds them against the same list."""
    found = set()
    for service, endpoint in running.at.items():
        for family in endpoint.families().values():
            if family.name.startswith((service, "retail_stream_")):
                assert family.documentation
                assert family.samples, f"{family.name} has no samples"
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
                found.add(Documented(name, family.type, labels))
    assert found == set(documented.metrics())


def test_without_postgres_those_who_write_to_it_are_not_ready(running: Running) -> None:
    missing = (503, "not ready: postgres\n")
    with running.without(Server.POSTGRES):
        running.all_say(scd_merger=missing, aggregator=missing)
    running.all_say()


def test_without_kafka_nobody_is_ready(running: Running) -> None:
    with running.without(Server.KAFKA):
        eventually(lambda: all_miss(running, "kafka"), lambda: f"all miss Kafka: {running.readiness()}")
        assert {e.ask("/healthz") for e in running.at.values()} == {(200, "ok\n")}
        assert {e.value("retail_stream_ready", condition="kafka") for e in running.at.values()} == {0}
    running.all_say()


def all_miss(running: Running, condition: str) -> bool:
    return all(status == 503 and condition in body for status, body in running.readiness().values())


@pytest.mark.parametrize("group", [Group.SCD_MERGER, Group.AGGREGATOR])
def test_it_is_not_ready_while_the_group_has_not_given_it_its_share(running: Running, group: Group) -> None:
    at = running.at[Service(group)]
    # A member that has a share and then says nothing any more holds up the next rebalance, for ten seconds at most.
    silent, another = (
        clients.consumer(running.connections, group, **{"max.poll.interval.ms": 10_000}) for _ in range(2)
    )
    try:
        silent.subscribe(list(CONSUMES[group]))
        eventually(lambda: has_a_share(silent), "the silent member has a share")
        eventually(lambda: at.ask("/readyz") == READY, "it is ready")
        another.subscribe(list(CONSUMES[group]))
        eventually(lambda: at.ask("/readyz") == (503, "not ready: assigned\n"), "it says what it lacks")
        assert at.value("retail_stream_ready", condition="assigned") == 0
    finally:
        silent.close()
        another.close()
    eventually(lambda: at.ask("/readyz") == READY, "it is ready")


def has_a_share(member: Consumer) -> bool:
    member.poll(0.1)
    return bool(member.assignment())
