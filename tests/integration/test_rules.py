"""CONTRIBUTING.md's recipe on a copy of the project that runs: rules come, change and go, and `verify` stays green."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.status import status
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka.headers import RULES_VERSION, headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.rules.rule_set import load
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, connections_of
from tests.harness.services import ROOT, ServiceProcess, Services

FOLDERS = ("commands", "retail_stream", "services", "schemas", "migrations", "tests")
BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 180
#: Sales of a turn: of some 600 baskets 4 % are paid with a gift card, enough for each member's share of partitions.
TURN = 1_000
SALES = Path("schemas/rules/sales.toml")


class Project:
    """A copy of the project with a running pipeline."""

    def __init__(self, folder: Path, stack: Servers) -> None:
        self.folder, self.connections = folder, connections_of(stack)
        self.env = {**stack.env, "PYTHONPATH": str(folder), "DLQ_MAX_RATIO": "0.9", "GENERATOR_SALES_PER_S": "400"}
        self.env |= {"GENERATOR_MAX_SALES": str(TURN), "GENERATOR_PROFILE": "calm"}
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.services = Services(self.env, folder / "services.log", folder)
        self.engine = postgres.engine(self.connections.database_url)
        self.cleaners: list[ServiceProcess] = []

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("commands.cli", *arguments)

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            text=True,
            capture_output=True,
        )

    def sell(self) -> None:
        """Publish the sales of a turn and wait until every service has done with them."""
        assert self.services.start("generator").wait(PATIENCE_S) == 0, self.services.log()[-3000:]
        self.drain()

    def drain(self) -> None:
        eventually(
            lambda: status.look(self.engine, self.connections).drained,
            "drained",
            PATIENCE_S,
            every_s=0.5,
            retry_on=Unavailable,
        )

    def change(self, old: str, new: str) -> None:
        """Another rule file, and a cleaner that reads it beside the one that runs; then only the newer one."""
        text = (self.folder / SALES).read_text()
        assert old in text
        (self.folder / SALES).write_text(text.replace(old, new))
        self.roll()

    def roll(self) -> None:
        """Start a cleaner by today's rules, sell while both run, and stop the older one."""
        self.cleaners.append(self.services.start("cleaner"))
        for cleaner in self.cleaners:
            eventually(lambda at=cleaner.at: at.ask("/readyz")[0] == 200, self.services.log, PATIENCE_S)  # type: ignore[misc]
        self.sell()
        self.is_verified()
        if len(self.cleaners) > 1:
            assert self.cleaners.pop(0).stop() == 0

    def is_verified(self) -> None:
        for command in ("verify", "score"):
            done = self.command(command)
            assert done.returncode == 0, done.stdout + done.stderr

    @property
    def version(self) -> str:
        return load(Entity.SALES, self.folder / "schemas" / "rules").version

    def judged(self, *names: str) -> Counter[str]:
        """How many records of topics name each version."""
        headers = (headers_by_name(m) for m in read_to_end(self.connections, *names))
        return Counter((h[RULES_VERSION] or b"").decode() for h in headers)


@pytest.fixture
def project(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("project"), empty_stack)
    with made.services:
        yield made
    made.engine.dispose()


def recipe(folder: Path) -> None:
    """Follow CONTRIBUTING.md's steps 1 and 3 in a folder."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Add a rule") : text.index("## Add a field")]
    blocks = {kind: re.sub(r"^   ", "", block, flags=re.MULTILINE) for kind, block in BLOCK.findall(section)}
    (file,) = re.findall(r"`(schemas/examples/\S+\.json)`", section)
    (folder / file).write_text(blocks["json"])
    with (folder / SALES).open("a") as rules:
        rules.write("\n" + blocks["toml"])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_rules_are_added_tightened_renamed_loosened_and_dropped_while_the_pipeline_runs(project: Project) -> None:
    for name in ("scd_merger", "aggregator"):
        project.services.start(name)
    project.roll()
    before = project.version
    clean, dead = topics.clean(Entity.SALES), topics.dlq(Entity.SALES)

    recipe(project.folder)
    tried = project.command("rules", "try", str(SALES))
    assert re.search(r"payment_method_known \(reject\): [1-9]\d* records", tried.stdout), tried
    assert "Nothing was written" in tried.stdout
    tests = project.run("pytest", "-q", "tests/unit/services/cleaner/test_rules.py", "-p", "no:cacheprovider")
    assert tests.returncode == 0, tests.stdout
    project.roll()
    added = project.version
    judged = project.judged(clean, dead)
    # Both judged some of the same sales: four partitions, two members.
    assert judged[before] > TURN
    assert judged[added] > 0
    assert set(project.judged(dead)) == {added}

    project.change("'mobile_wallet', ", "")
    project.change("[payment_method_known]", "[paid_as_known]")
    tightened = project.version

    project.change("'cash')", "'cash', 'mobile_wallet', 'gift_card')")
    # Some while the looser rules judged, too.
    rejected = project.judged(dead)[tightened]
    assert rejected > 0
    before_replay = project.judged(clean)
    replayed = project.command("dlq", "replay", "--rule", "paid_as_known", "--execute")
    assert replayed.returncode == 0, replayed
    assert "Published" in replayed.stdout
    project.drain()
    project.is_verified()
    assert project.judged(clean) - before_replay == {project.version: rejected}

    start = (project.folder / SALES).read_text().index("[paid_as_known]")
    project.change((project.folder / SALES).read_text()[start:], "")
    assert project.version == before
    listed = project.command("rules").stdout
    assert listed.count("sales") >= 5
    assert len(re.findall(rf"{before}.*today", listed)) == 1
    difference = project.command("rules", "diff", before, added).stdout
    assert "+ payment_method_known: payment_method IN" in difference


def test_a_rule_that_is_not_valid_stops_init_and_the_cleaner_with_one_sentence(tmp_path: Path) -> None:
    for name in ("commands", "retail_stream", "services", "schemas", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / SALES).open("a") as rules:
        rules.write('\n[paid]\nmust = "payment IN (1)"\naction = "reject"\nwhy = "So."\n')
    nowhere = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "METRICS_PORT": "0",
    }
    for command in (["commands.cli", "init"], ["services.cleaner"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env={**os.environ, **nowhere, "PYTHONPATH": str(tmp_path)},
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 2, done
        assert (
            "schemas/rules/sales.toml: rule paid: character 1 of its condition: 'payment' is not a field;"
            " did you mean payment_method?." in done.stderr
        )
