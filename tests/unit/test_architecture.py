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
    "retail_stream/avro/decoder.py",
    "retail_stream/avro/derived.py",
    "retail_stream/avro/encoder.py",
    "retail_stream/avro/extra.py",
    "retail_stream/avro/resolution.py",
    "commands/dlq/plan.py",
    "services/cleaner/clean.py",
    "services/cleaner/verdict.py",
    "services/cleaner/context.py",
    "services/cleaner/letters.py",
    "retail_stream/rules/built_in.py",
    "retail_stream/rules/compiling.py",
    "retail_stream/rules/patterns.py",
    "services/scd_merger/merge.py",
    "services/aggregator/step.py",
    "services/aggregator/watermark.py",
    "services/aggregator/windows.py",
    "services/aggregator/totals.py",
    "services/aggregator/duplicates.py",
    "services/aggregator/lifecycle.py",
)
#: The commands that judge what the services did.
AUDITS = ("audit", "verify", "score")
#: All that they may share with the services; docs/architecture.md says what for. No module here decides a result.
SHARED = (
    "retail_stream.avro.registry",
    "retail_stream.avro.schema",
    "retail_stream.dead_letters",
    "retail_stream.entities",
    "retail_stream.errors",
    "retail_stream.kafka.clients",
    "retail_stream.kafka.headers",
    "retail_stream.kafka.offsets",
    "retail_stream.kafka.reading",
    "retail_stream.kafka.topic_ids",
    "retail_stream.package_data",
    "retail_stream.rules.built_in",
    "retail_stream.rules.published",
    "retail_stream.rules.rule_set",
    "retail_stream.settings",
    "retail_stream.topics",
    "retail_stream.waiting",
    "retail_stream.warehouse.postgres",
    "retail_stream.warehouse.roles",
)
IMPURE = {"time", "datetime", "random", "socket", "threading", "asyncio", "confluent_kafka", "psycopg", "sqlalchemy"}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, inside functions and by relative imports too."""
    return imports_of(path.read_text(), path.relative_to(ROOT).parent)


def imports_of(source: str, package: Path) -> set[str]:
    """As :func:`imported`, of the source of a module in ``package`` (a folder, relative to the repository)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package itself, each further dot the folder above.
            above = package.parts[: len(package.parts) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{a.name}" for a in node.names}
    return names


def violations(folder: str, forbidden: tuple[str, ...]) -> set[tuple[str, str]]:
    """(file, module) for each import in a folder of a forbidden module, or of one inside it."""
    inside = tuple(f"{name}." for name in forbidden)
    return {
        (str(p.relative_to(ROOT)), n)
        for p in modules(folder)
        for n in imported(p)
        if n in forbidden or n.startswith(inside)
    }


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("import services.cleaner.clean", "services.cleaner.clean"),
        ("from services import cleaner", "services.cleaner"),
        ("from ..cleaner import clean", "services.cleaner.clean"),
        ("from ..cleaner.clean import batch", "services.cleaner.clean"),
        ("from .. import cleaner", "services.cleaner"),
        ("from ...commands import demo", "commands.demo"),
        ("from . import loop", "services.generator.loop"),
        ("def f():\n    from ..cleaner import clean", "services.cleaner.clean"),
    ],
)
def test_every_way_to_import_is_seen(line: str, module: str) -> None:
    assert module in imports_of(line, Path("services/generator"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = tuple(f"services.{s}" for s in SERVICES if s != service)
    assert violations(f"services/{service}", others) == set()


@pytest.mark.parametrize("storey", STOREYS)
def test_imports_go_down_only(storey: str) -> None:
    assert violations(storey, STOREYS[STOREYS.index(storey) + 1 :]) == set()


def test_what_verify_and_score_share_is_in_audit() -> None:
    assert violations("commands/score", ("commands.verify",)) == set()
    assert violations("commands/verify", ("commands.score",)) == set()
    assert violations("commands/audit", ("commands.verify", "commands.score")) == set()


@pytest.mark.parametrize("folder", AUDITS)
def test_verify_and_score_share_with_the_services_only_what_is_listed(folder: str) -> None:
    used = {(str(p.relative_to(ROOT)), m) for p in modules(f"commands/{folder}") for m in modules_used(p)}
    assert {(path, m) for path, m in used if not m.startswith("commands.") and m not in SHARED} == set()


def test_what_may_be_shared_is_shared() -> None:
    used = {m for folder in AUDITS for p in modules(f"commands/{folder}") for m in modules_used(p)}
    assert set(SHARED) - used == set()


def modules_used(path: Path) -> set[str]:
    """The modules of this repository that a file imports, or imports names of."""
    files = {n: ROOT / f"{n.replace('.', '/')}.py" for n in imported(path) if n.startswith(STOREYS)}
    return {n for n, file in files.items() if file.exists()}


@pytest.mark.parametrize("folder", AUDITS)
def test_only_the_texts_of_rules_are_shared(folder: str) -> None:
    """A rule set has them as expressions of Polars, too, which the cleaner evaluates."""
    names = {
        (str(p.relative_to(ROOT)), node.attr)
        for p in modules(f"commands/{folder}")
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert {(path, name) for path, name in names if name in ("expectations", "OF_DELETES", "STORABLE")} == set()


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_know_no_clock_no_chance_and_no_server(path: str) -> None:
    assert {n.partition(".")[0] for n in imported(ROOT / path)} & IMPURE == set()


def test_importing_every_module_opens_nothing() -> None:
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


def test_no_module_grows_beyond_what_one_reads_in_one_go() -> None:
    long = {p.name: n for f in STOREYS for p in modules(f) if (n := len(p.read_text().splitlines())) > 250}
    assert long == {}


def test_the_images_get_the_versions_that_are_tested() -> None:
    def pinned(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pinned("services.lock") < pinned("requirements.lock")
    assert len(pinned("services.lock")) > 50
