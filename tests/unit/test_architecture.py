"""The architecture, enforced: who may import whom, and that importing opens nothing and pure modules know no clock."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("generator", "cleaner", "scd_merger", "aggregator")
STOREYS = ("retail_stream", "services", "commands")
#: The pure middles: frames in, frames out, time and randomness as arguments.
PURE = (
    "retail_stream/avro/decode.py",
    "commands/dlq/plan.py",
    "services/cleaner/clean.py",
    "services/cleaner/verdict.py",
    "services/cleaner/expectations.py",
    "services/cleaner/transport/positions.py",
    "services/scd_merger/merge.py",
    "services/aggregator/step.py",
    "services/aggregator/watermark.py",
    "services/aggregator/windows.py",
    "services/aggregator/totals.py",
    "services/aggregator/duplicates.py",
    "services/aggregator/lifecycle.py",
)
IMPURE = {"time", "datetime", "random", "socket", "threading", "asyncio", "confluent_kafka", "psycopg", "sqlalchemy"}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str):
    others = tuple(f"services.{s}" for s in SERVICES if s != service)
    found = {(p.name, n) for p in modules(f"services/{service}") for n in imported(p) if n.startswith(others)}
    assert found == set()


def test_imports_go_down_only():
    found = {
        (p.name, n)
        for i, storey in enumerate(STOREYS)
        for p in modules(storey)
        for n in imported(p)
        if n.startswith(STOREYS[i + 1 :])
    }
    assert found == set()


def test_verify_shares_no_engine_with_the_services():
    engine = ("retail_stream.avro.decode", "retail_stream.kafka.batches", "retail_stream.warehouse.positions", "polars")
    audit = [p for folder in ("audit", "verify") for p in modules(f"commands/{folder}")]
    found = {(p.name, n) for p in audit for n in imported(p) if n.startswith(engine)}
    assert {f for f in found if f[1] != "polars"} == set()


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_know_no_clock_no_chance_and_no_server(path: str):
    assert {n.partition(".")[0] for n in imported(ROOT / path)} & IMPURE == set()


def test_importing_every_module_opens_nothing():
    names = [
        str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for folder in STOREYS
        for p in modules(folder)
        if p.name != "__main__.py"
    ]
    program = (
        "import socket, importlib\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.socket.bind = refuse\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_module_grows_beyond_what_one_reads_in_one_go():
    long = {p.name: n for f in STOREYS for p in modules(f) if (n := len(p.read_text().splitlines())) > 280}
    assert long == {}


def test_the_images_get_the_versions_that_are_tested():
    def pinned(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pinned("services.lock") < pinned("requirements.lock")
    assert len(pinned("services.lock")) > 50
