"""Faults under load, in a seeded order: afterwards `verify` finds nothing lost and nothing counted twice.

Every kind comes once: `kill -9` of each service and each server, a freeze, ended sessions, cancelled statements, an
outbox that fills, a replica that comes and goes, a cleaner with other rules, a replay of letters. CHAOS_SECONDS (0)
goes on with random ones, `verify` among them, for so long; CHAOS_SEED (22) chooses the order. `make chaos` is a run of
ten minutes.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from commands.demo.pipeline import Service
from commands.embedded.servers import Server
from commands.verify.run import run
from services.aggregator.relay import LOCK
from tests.harness.eventually import PATIENCE_S, eventually
from tests.harness.services import ROOT, servers_of
from tests.system.conftest import RATES, Running
from tests.system.evidence import evidence

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "22"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200 + 2 * SECONDS)]
#: Results of short windows fill the outbox within seconds.
SETTINGS = {"SALES_WINDOWS": "5s,1m"}
CONSUMERS = (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR)
Fault = Callable[[Running, random.Random], None]


def kill_service(service: Service) -> Fault:
    """It is started again at once."""

    def kill(running: Running, _: random.Random) -> None:
        running.pipeline.processes[service].kill()
        running.pipeline.start(service)

    return kill


def kill_server(server: Server) -> Fault:
    """It is started again at once."""

    def kill(running: Running, _: random.Random) -> None:
        running.stack.kill(server)
        running.stack.start(server)
        running.stack.wait_ready(server)

    return kill


def more_sales(running: Running, rng: random.Random) -> None:
    """Wait until sales of one to five seconds more are published."""
    was, by = running.status().produced, rng.uniform(1, 5) * float(RATES["GENERATOR_SALES_PER_S"])
    running.until(lambda s: s.produced > was + by, "sales are published")


def freeze(running: Running, rng: random.Random) -> None:
    """One that consumes, for some seconds."""
    frozen = running.pipeline.processes[rng.choice(CONSUMERS)]
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        more_sales(running, rng)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)


def on_sessions(function: str) -> Fault:
    """Postgres' function, on every session of ours."""

    def act(running: Running, _: random.Random) -> None:
        query = f"SELECT {function}(pid) FROM pg_stat_activity WHERE application_name LIKE 'retail_stream.%'"
        with running.warehouse.connect() as connection:
            assert connection.execute(text(query)).rowcount > 1

    return act


def fill_the_outbox(running: Running, _: random.Random) -> None:
    """Take the lock of the relay away, until results wait."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'retail_stream.outbox'"

    def taken() -> bool:
        connection.execute(text(end))
        return bool(connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar_one())

    with running.warehouse.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        eventually(taken, "the lock of the relay is ours", PATIENCE_S)
        try:
            running.until(lambda s: s.outbox > 0, "results wait in the outbox")
        finally:
            connection.invalidate()


def replica(running: Running, rng: random.Random) -> None:
    """Of one that consumes; it comes and goes."""
    service = rng.choice(CONSUMERS)
    twin = running.twin(f"replica-{rng.randrange(10**9)}")
    twin.start(service)
    running.meanwhile(lambda: "assigned" in twin.log(service).read_text(), "the replica gets its share")
    assert twin.stop(service) == 0


def other_rules(running: Running, rng: random.Random) -> None:
    """A cleaner whose rules allow some negative discounts takes over; the next one that is started has ours again."""
    folder = running.pipeline.logs / f"rules-{rng.randrange(10**9)}"
    for name in ("retail_stream", "services", "schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    rules = folder / "schemas" / "rules" / "sales.toml"
    text = rules.read_text()
    assert text.count("discount_applied >= 0") == 1
    rules.write_text(text.replace("discount_applied >= 0", f"discount_applied >= -{rng.randint(1, 9)}"))
    running.pipeline.processes[Service.CLEANER].kill()
    running.pipeline.start(Service.CLEANER, PYTHONSAFEPATH="1", PYTHONPATH=str(folder))


def replay(running: Running, _: random.Random) -> None:
    """All sales that were rejected for their discount, whatever the rules are now."""
    done = subprocess.run(
        [sys.executable, "-m", "commands.cli", "dlq", "replay", "--rule", "discount_not_negative", "--execute"],
        cwd=ROOT,
        env={**os.environ, **servers_of(running.connections)},
        text=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def verify_in_the_middle(running: Running, _: random.Random) -> None:
    report = run(running.connections)
    assert report.ok, evidence(running, report)


FAULTS: dict[str, Fault] = {
    **{f"{service} is killed": kill_service(service) for service in Service},
    **{f"{server} is killed": kill_server(server) for server in (Server.KAFKA, Server.POSTGRES, Server.REGISTRY)},
    "a service is frozen": freeze,
    "sessions end": on_sessions("pg_terminate_backend"),
    "statements are cancelled": on_sessions("pg_cancel_backend"),
    "the outbox fills": fill_the_outbox,
    "a replica comes and goes": replica,
    "other rules": other_rules,
    "dead letters are replayed": replay,
}
LATER: dict[str, Fault] = {**FAULTS, "verify": verify_in_the_middle}


def test_after_faults_of_every_kind_the_warehouse_is_what_the_raw_topics_say(running: Running) -> None:
    rng = random.Random(SEED)
    until = time.monotonic() + SECONDS
    pauses: dict[str, float] = {}
    names = rng.sample(sorted(FAULTS), len(FAULTS))
    running.flows_on()
    while names or time.monotonic() < until:
        name = names.pop() if names else rng.choice(sorted(LATER))
        began = time.monotonic()
        LATER[name](running, rng)
        running.flows_on()
        pauses[name] = max(pauses.get(name, 0.0), time.monotonic() - began)
    status = running.drain()
    assert status.rejected > 0
    report = run(running.connections)
    assert report.ok, evidence(running, report)
    print(f"seed {SEED}; from each fault until everything flows again, the longest:")
    for name, seconds in sorted(pauses.items(), key=lambda item: -item[1]):
        print(f"{seconds:6.1f} s  {name}")
