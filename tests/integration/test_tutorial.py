"""docs/tutorial.md as written, in a copy of the project; in between, the commands that README.md shows.

The servers are there already: `make setup`, the activation and `retail-stream infra` do nothing.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.services import ROOT
from tests.integration.test_suppliers import Project, project

__all__ = ["project"]
_MARK = "#### "
_STUBS = """
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
make() { :; }
retail-stream() { if [ "$1" != infra ]; then command retail-stream "$@"; fi; }
"""


def blocks(page: str) -> list[str]:
    """What stands in a page's ```sh blocks, in their order."""
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def told(block: str) -> str:
    """The block, behind a line that says where its output begins."""
    return f"echo {shlex.quote(f'{_MARK}{block.splitlines()[0]}')}\n{block}"


@pytest.mark.long
def test_the_tutorial_and_the_commands_of_the_readme_do_what_they_say(project: Project) -> None:
    (project.folder / ".venv" / "bin").mkdir(parents=True)
    (project.folder / ".venv" / "bin" / "activate").touch()
    tutorial = blocks("docs/tutorial.md")
    (readme,) = [block for block in blocks("README.md") if "retail-stream status" in block]
    # Before the tutorial's rule: a planted fault that it rejects would be missed.
    script = "\n".join([_STUBS, *map(told, [*tutorial[:3], readme, *tutorial[3:]])])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **project.env, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], cwd=project.folder, env=env, text=True, capture_output=True, timeout=300
    )
    logs = "".join(path.read_text()[-2000:] for path in project.folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
    said = dict(part.split("\n", 1) for part in done.stdout.split(_MARK)[1:])
    assert '"transaction_id"' in said["retail-stream tail sales.clean --from-beginning --max-messages 1"]
    rule = said["kill $cleaner; wait $cleaner"]
    assert re.search(r"cash_at_most_200\W+[1-9]", rule), rule
    assert "checks passed" in rule
    answers = done.stdout.rpartition(f"{_MARK}kill $aggregator")[2]
    assert re.search(r"^\w+\t\d+\t\d+\t\d+\.\d$", answers, flags=re.MULTILINE), answers
    assert project.query("SELECT count(DISTINCT window_size) FROM sales_by_window") == [(2,)]
    # What the README shows: every fault handled, every topic listed.
    assert re.search(r"(\d+) of \1 faults handled", done.stdout.replace(",", ""))
    assert "cleaner.rules" in said[readme.splitlines()[0]]
