"""docs/suppliers as written: a dimension more, then a field more, in a copy of the project that really runs.

The records of the new field come before its migration; what was kept of them must be what a rebuild makes of them.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, connections_of, own_database
from tests.harness.services import ROOT, ServiceProcess, Services
from tests.integration.services.cleaner.world import LONG_AGO_US

STEPS = ROOT / "docs" / "suppliers"
FOLDERS = ("commands", "retail_stream", "services", "schemas", "migrations")
RAW = "suppliers.raw"
SERVICES = ("cleaner", "scd_merger", "aggregator")


class Project:
    """A copy of the project, and its processes on servers of its own."""

    def __init__(self, folder: Path, stack: Servers) -> None:
        self.folder, self.stack = folder, stack
        self.env = {**stack.env, "PYTHONPATH": str(folder), "DLQ_MAX_RATIO": "1"}
        self.services = Services(self.env, folder / "services.log", folder)
        self.running: dict[str, ServiceProcess] = {}
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, step: str) -> None:
        """Do what docs/suppliers says: copy the files, apply the patch."""
        for name in ("schemas", "migrations"):
            shutil.copytree(STEPS / step / name, self.folder / name, dirs_exist_ok=True)
        for patch in (STEPS / step).glob("*.patch"):
            subprocess.run(["git", "apply", str(patch)], cwd=self.folder, check=True)
        self.command("init")

    def command(self, name: str, **env: str) -> None:
        self.try_command(name, **env).check_returncode()

    def try_command(self, name: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "commands.cli", name],
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def start(self, name: str, **env: str) -> None:
        self.running[name] = self.services.start(name, **env)

    def stop(self, *names: str) -> None:
        for name in names:
            self.running[name].send_signal(signal.SIGTERM)
        for name in names:
            assert self.running.pop(name).wait() == 0

    def publish(self, step: str, *records: Mapping[str, Any] | tuple[int, int]) -> None:
        """``records``: suppliers, or (id, time) of deletes."""
        schema = json.loads((STEPS / step / "schemas" / "raw" / "suppliers.avsc").read_text())
        number = Registry(self.stack.env["SCHEMA_REGISTRY_URL"]).register(f"{RAW}-value", schema)
        plain = RecordSchema(schema).plain
        producer = Producer({"bootstrap.servers": self.stack.env["KAFKA_BOOTSTRAP_SERVERS"]})
        for record in records:
            if isinstance(record, tuple):
                key, at = record
                producer.produce(RAW, None, str(key), key % 4, headers=[(SEQUENCE_TIME, as_big_endian(at))])
            else:
                key = record["supplier_id"]
                producer.produce(RAW, frame(number, encode(plain, record)), str(key), key % 4)
        assert producer.flush(30) == 0

    def verified(self) -> bool:
        """Whether everything that is on the topics arrived, and as `verify` would have it."""
        status = self.try_command("verify")
        self.said = status.stdout
        return status.returncode == 0

    def query(self, sql: str, database: str | None = None) -> list[tuple]:
        with psycopg.connect(database or self.stack.env["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def project(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("project"), empty_stack)
    with made.services:
        yield made


def supplier(rng: random.Random, **more: Any) -> dict[str, Any]:
    return {
        "supplier_id": rng.randrange(30),
        "name": rng.choice("ab"),
        "country": rng.choice(["PT", "TR"]),
        "contact": rng.choice([None, "", "Ana"]),
        "lead_time_days": 14,
        "rating": rng.choice([1.0, 2.5, 4.125]),
        "preferred": rng.random() < 0.5,
        "contract_end": LONG_AGO_US + 5,
        "last_update_time": LONG_AGO_US + rng.randrange(200),
        **more,
    }


def certified(rng: random.Random) -> dict[str, Any]:
    return supplier(rng, certificate=rng.choice([None, "GOTS", "OEKO-TEX", 'a "quoted", one']))


CONTENTS = """
    SELECT supplier_id, name, country, contact, lead_time_days, rating, preferred, contract_end, certificate,
           last_update_time, valid_from, valid_to
    FROM dim_suppliers ORDER BY supplier_id, valid_from
"""


@pytest.mark.long
def test_a_dimension_and_then_a_field_are_added_as_documented(project: Project) -> None:
    rng = random.Random(3)
    project.add("first")
    for name in SERVICES:
        project.start(name)
    deletes = [(rng.randrange(30), LONG_AGO_US + rng.randrange(200)) for _ in range(20)]
    early: list[Mapping[str, Any] | tuple[int, int]] = [*(supplier(rng) for _ in range(300)), *deletes]
    rng.shuffle(early)
    project.publish("first", *early, supplier(rng, name="torn\0"), supplier(rng, rating=float("nan")))
    # Postgres holds no U+0000. Of a field that is not ours it is no fault: the certificate is kept, as it is spelled.
    unfit = {**certified(rng), "supplier_id": 77, "certificate": "GOTS\0"}
    project.publish("then", *(certified(rng) for _ in range(200)), unfit)

    def kept() -> int:
        return project.query("SELECT count(*) FROM pipeline.suppliers_changes WHERE extra->>'certificate' = 'GOTS'")[0][
            0
        ]

    eventually(kept, "fields without a column are kept")
    eventually(project.verified, lambda: f"everything is there\n{project.said}", within_s=90, every_s=1)
    assert "dim_suppliers" in project.said
    assert re.search(r"suppliers\.dlq +expected +2 +found +2\b", project.said), "the torn and the endless"
    untracked = project.query("""
        SELECT count(*) FROM dim_suppliers v JOIN pipeline.suppliers_changes c USING (supplier_id)
        WHERE c.last_update_time = v.valid_from AND v.rating <> round(c.rating::numeric, 2)
    """)
    assert untracked[0][0] > 0, "a rating makes no version, and is updated in place"

    project.stop("cleaner", "scd_merger")
    before = project.query("SELECT count(*) FROM dim_suppliers")[0][0]
    project.add("then")
    project.start("cleaner")
    project.start("scd_merger")
    eventually(lambda: not kept(), "the column has them")
    assert project.query("SELECT count(*) FROM dim_suppliers")[0][0] > before, "versions that differ in the new field"
    project.publish("then", *(certified(rng) for _ in range(100)))
    project.publish("first", *(supplier(rng) for _ in range(100)))
    eventually(project.verified, lambda: f"everything is there again\n{project.said}", within_s=90, every_s=1)
    assert project.query("SELECT count(*) FROM suppliers_current WHERE certificate IS NOT NULL")[0][0] > 0

    found = project.query(CONTENTS)
    project.stop("scd_merger")
    with own_database(connections_of(project.stack), "rebuilt") as rebuilt:
        url = rebuilt.database_url
        project.command("init", DATABASE_URL=url)
        project.start("scd_merger", DATABASE_URL=url)
        eventually(lambda: project.query(CONTENTS, url) == found, "a rebuild comes to the same")
        project.stop(*SERVICES)
