"""The built wheel in an environment of its own, outside the checkout: schemas, migrations and the page are in it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
pytestmark = pytest.mark.long


def run(*command: str | Path, cwd: Path, within_s: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    # The checkout must not be importable, or the test would say nothing of the wheel.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=cwd, env={**kept, **env}, capture_output=True, text=True, timeout=within_s, check=False
    )


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """The `bin` of a new environment that holds the wheel and what it depends on, as locked."""
    with TemporaryDirectory(prefix="retail-stream-wheel-") as name:
        folder = Path(name)
        # Postgres runs as another user where the tests run as root.
        folder.chmod(0o755)
        environment = {"VIRTUAL_ENV": str(folder / "venv")}
        built = run(UV, "build", "-q", "--wheel", "--no-build-isolation", "-o", folder, ROOT, cwd=ROOT)
        assert built.returncode == 0, built.stderr
        (wheel,) = folder.glob("*.whl")
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder).check_returncode()
        install: list[str | Path] = [UV, "pip", "install", "-q", "--constraints", ROOT / "requirements.lock", wheel]
        done = run(*install, cwd=folder, within_s=300, **environment)
        assert done.returncode == 0, done.stderr
        yield folder / "venv" / "bin"


def test_the_demo_runs_from_the_wheel(installed: Path):
    folder = installed.parents[1]
    done = run(
        installed / "retail-stream",
        "demo",
        cwd=folder,
        DEMO_SECONDS="5",
        RETAIL_STREAM_HOME=str(folder / "home"),
        within_s=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "checks passed" in done.stdout


@pytest.mark.parametrize("module", ["generator", "cleaner", "scd_merger", "aggregator"])
def test_a_service_of_the_wheel_says_which_setting_is_missing(installed: Path, module: str):
    python, folder = installed / "python", installed.parents[1]
    done = run(python, "-m", f"services.{module}", cwd=folder)
    assert done.returncode == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    origin = run(python, "-c", f"import services.{module} as m; print(m.__file__)", cwd=folder).stdout
    assert origin.startswith(str(installed.parent)), origin
