"""docs/score-your-pipeline.md as written: the example runs, and is missed for the reasons that the page gives."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.score import command, judge
from tests.harness.servers import Servers, connections_of

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "score-your-pipeline.md").read_text()


@pytest.fixture(scope="module")
def output(empty_stack: Servers) -> str:
    """What the commands of the page print; the servers are there already."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    commands = [line for line in block.splitlines() if "activate" not in line and " infra " not in line]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", *commands])],
        cwd=ROOT,
        env={**os.environ, **empty_stack.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # Something was missed.
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
def test_it_misses_what_the_page_says_for_the_reasons_it_gives(
    output: str, empty_stack: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How often there is a burst depends on how long the generator takes.
    shown, found = (set(re.findall(r"^✗ (\w+) +planted", text, re.MULTILINE)) - {"burst"} for text in (PAGE, output))
    assert found == shown
    monkeypatch.setattr(judge, "_EXAMPLES", 100_000)
    connections = connections_of(empty_stack)
    server, _, _ = connections.database_url.rpartition("/")
    score = command.run(connections.model_copy(update={"database_url": f"{server}/naive"}))
    why = {(f.fault, example.partition("): ")[2]) for f in score.faults for example in f.examples}
    reasons = PAGE.partition("|---|---|---|\n")[2].partition("\n\n")[0]
    given = set(re.findall(r"^\| (\w+) \| ([^|]+) \|", reasons, re.MULTILINE))
    assert len(given) > 10
    assert given <= why, given - why
