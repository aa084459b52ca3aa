"""A warehouse that the release before filled goes on under this one, and commands meet it at work. One story.

release before   init ─▶ a day of history, then live ─▶ SIGTERM while records flow
this one         init, which migrates ─▶ the services, live ─▶ dlq load, forget ─▶ drain ─▶ verify, score
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from commands.demo.pipeline import Pipeline, Service
from commands.dlq import load as dead_letters
from commands.embedded.processes import ProcessGroup
from commands.retention.forget import forget
from commands.score import command as score
from commands.verify.run import run as verify
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SEQUENCE_TIME, big_endian, headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.warehouse import postgres
from tests.harness import earlier_release
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.servers import Servers, bare, connections_of
from tests.harness.services import ROOT, Services
from tests.system.conftest import Running
from tests.system.evidence import evidence

pytestmark = pytest.mark.long
DAY = timedelta(days=1)
#: Small catalogues, so that each id has changes all the time.
SETTINGS = {
    "GENERATOR_PROFILE": "hostile",
    "GENERATOR_CUSTOMERS": "30",
    "GENERATOR_PRODUCTS": "100",
    "GENERATOR_STORES": "20",
    "SALES_WINDOWS": "15m,1h/30m",
    "ALLOWED_LATENESS_S": "1200",
    # Between two sales of a partition in the history's quiet hours is more than this.
    "IDLE_TIMEOUT_S": "10",
}
HISTORY = {"GENERATOR_SALES_PER_S": "0.2", "GENERATOR_CHANGES_PER_S": "0.02"}
#: No customer is deleted meanwhile, but the one that is forgotten.
LIVE = {
    "GENERATOR_SALES_PER_S": "60",
    "GENERATOR_CHANGES_PER_S": "6",
    "GENERATOR_NEW_CUSTOMERS": "0",
    "GENERATOR_FAULT_TOMBSTONE": "0",
}
#: What never changes again, as rows that any release reads alike.
FOR_GOOD = {
    "fact_sales": "true",
    "late_sales": "true",
    "sales_by_window": "state = 'final'",
    "sales_by_product_window": "state = 'final'",
    "customers_changes": "true",
}


Rows = dict[str, set[str]]


@dataclass(frozen=True)
class Before:
    """What the release before left. ``rows``: of FOR_GOOD; ``at``: when it stopped; ``version``: of its tables."""

    rows: Rows
    at: datetime
    version: str


def rows(warehouse: Engine) -> Rows:
    with warehouse.connect() as connection:
        return {
            table: set(connection.execute(text(f"SELECT md5(t::text) FROM {table} t WHERE {which}")).scalars())
            for table, which in FOR_GOOD.items()
        }


def one(warehouse: Engine, query: str, **values: object) -> Any:
    with warehouse.connect() as connection:
        return connection.execute(text(query), values).scalar_one()


def command(folder: Path, python: str, env: Mapping[str, str], *arguments: str) -> None:
    """Run `retail-stream` of a checkout; it succeeds."""
    done = subprocess.run(
        [python, "-m", "commands.cli", *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def before(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Before:
    """A day of data of the release before; its services have stopped, with records on their way."""
    connections, release = bare(empty_stack), earlier_release.unpacked(tmp_path_factory.mktemp("release"))
    now = datetime.now(UTC)
    env = {**empty_stack.env, **SETTINGS, **HISTORY, "GENERATOR_BACKFILL_FROM": (now - DAY).isoformat()}
    command(release.folder, release.python, env, "init")
    warehouse = postgres.engine(connections.database_url)
    with Services(env, tmp_path_factory.mktemp("before") / "log", release.folder, release.python) as services:
        running = {service: services.start(service) for service in Service}
        live = "SELECT coalesce(max(published_at) > :now, false) FROM fact_sales"
        eventually(lambda: one(warehouse, live, now=now), services.log, PATIENCE_S, every_s=0.5)
        # Against the flow, so that each leaves something to read.
        for service in reversed(Service):
            assert running[service].stop() == 0, services.log()
    version = one(warehouse, "SELECT version_num FROM alembic_version")
    left = Before(rows(warehouse), datetime.now(UTC), version)
    warehouse.dispose()
    return left


@pytest.fixture(scope="module")
def running(before: Before, empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The services of this release on the same topics and tables, the generator live."""
    env = {**empty_stack.env, **SETTINGS, **LIVE}
    command(ROOT, sys.executable, env, "init")
    with ProcessGroup() as group:
        pipeline = Pipeline(group, env, tmp_path_factory.mktemp("logs"))
        made = Running(empty_stack, pipeline, connections_of(empty_stack), lambda name: pipeline)
        assert rows(made.warehouse) == before.rows, "init changes no row of them"
        for service in Service:
            pipeline.start(service)
        yield made
        made.warehouse.dispose()


def test_the_release_before_left_a_day_of_everything(before: Before) -> None:
    assert len(before.rows["fact_sales"]) > 3_000
    assert min(map(len, before.rows.values())) > 0, {table: len(found) for table, found in before.rows.items()}


def test_the_services_go_on_and_revise_what_it_fired(running: Running, before: Before) -> None:
    assert one(running.warehouse, "SELECT version_num > :v FROM alembic_version", v=before.version)
    running.flows_on()
    # Revisions of before were never stored as rows; those of now are, also of its windows.
    query = "SELECT count(*) FROM window_revisions WHERE window_end < :at AND revision > 0"
    running.until(lambda _: one(running.warehouse, query, at=before.at) > 0, "its windows are revised")


def test_two_loads_at_once_add_each_dead_letter_once(running: Running) -> None:
    with ThreadPoolExecutor(2) as pool:
        loaded = [pool.submit(dead_letters.load, running.connections) for _ in range(2)]
        added = sum(future.result(PATIENCE_S) for future in loaded)
    there = one(running.warehouse, "SELECT count(*) FROM dead_letters")
    assert (there, there > 0) == (added, True)


def test_a_customer_is_forgotten_while_sales_and_changes_of_it_flow(running: Running, before: Before) -> None:
    """What is older is gone and stays away, also as a late change; what comes later is a new beginning."""
    warehouse = running.warehouse
    busiest = """
        SELECT customer_id FROM customers_changes WHERE last_update_time > :at
        GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1
    """
    number = one(warehouse, busiest, at=before.at)
    gone = forget(running.connections, Entity.CUSTOMERS, number)
    assert gone.versions > 0
    assert gone.changes >= gone.versions
    older = f"""
        SELECT (SELECT count(*) FROM dim_customers WHERE customer_id = {number} AND valid_from < b.before)
             + (SELECT count(*) FROM customers_changes WHERE customer_id = {number} AND last_update_time < b.before)
             + (SELECT count(*) FROM dead_letters WHERE entity = 'customers' AND key = '{number}'
                AND published_at < b.before)
        FROM forgotten b WHERE entity = 'customers' AND id = {number}
    """
    assert one(warehouse, older) == 0
    tombstones = [
        m
        for m in read_to_end(running.connections, topics.raw(Entity.CUSTOMERS))
        if m.key() == str(number).encode()
        and m.value() is None
        and big_endian(headers_by_name(m).get(SEQUENCE_TIME)) == gone.before_us
    ]
    assert len(tombstones) == 1
    again = f"SELECT count(*) FROM dim_customers WHERE customer_id = {number} AND valid_from >= :at"
    at = datetime.fromtimestamp(gone.before_us / 1e6, UTC)
    running.until(lambda _: one(warehouse, again, at=at) > 0, "a later change is a new beginning")
    assert one(warehouse, older) == 0
    sales = f"SELECT count(*) FILTER (WHERE event_time < :at) FROM fact_sales WHERE customer_id = {number}"
    assert one(warehouse, sales, at=at) > 0, "its sales stay, with its number"
    dead_letters.load(running.connections)
    assert one(warehouse, older) == 0


def test_after_all_of_it_verify_and_score_are_green(running: Running, before: Before) -> None:
    running.drain()
    report = verify(running.connections)
    assert report.ok, evidence(running, report)
    result = score.run(running.connections)
    assert result.ok, result
    now = rows(running.warehouse)
    forgotten = {"customers_changes"}
    lost = {table: len(was - now[table]) for table, was in before.rows.items() if table not in forgotten}
    assert not any(lost.values()), lost
