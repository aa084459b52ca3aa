"""The last lines of .ci/run: a half that failed, or was cut off, is not told by its counts alone."""

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / ".ci" / "run"
GREEN, RED = "===== 3 passed in 1.00s =====", "===== 1 failed, 2 passed in 1.00s ====="


def said(folder: Path, embedded: tuple[str, int], containers: tuple[str, int]) -> tuple[list[str], int]:
    """The last three lines and the exit code of .ci/run, where the two halves say a line and end so."""

    def program(path: str, text: str, code: int) -> None:
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\nexit {code}\n")
        file.chmod(0o755)

    for name in ("apt-get", "chromium", "promtool"):
        program(f"bin/{name}", ":", 0)
    program("bin/make", f'[ "$1" = test ] || exit 0\necho "{embedded[0]}"', embedded[1])
    program(".ci/containers", f'echo "{containers[0]}"', containers[1])
    program(".ci/run", RUN.read_text(), 0)
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    done = subprocess.run([str(folder / ".ci" / "run")], capture_output=True, text=True, env=env, timeout=60)
    return done.stdout.splitlines()[-3:], done.returncode


@pytest.mark.parametrize(
    ("embedded", "containers", "lines", "code"),
    [
        ((GREEN, 0), (GREEN, 0), [f"embedded servers: {GREEN}", f"containers: {GREEN}", "together: 6 passed"], 0),
        (
            (GREEN, 0),
            ("", 3),
            [f"embedded servers: {GREEN}", "containers: NOT RUN, as no Docker daemon answers here"],
            0,
        ),
        (
            (RED, 2),
            (GREEN, 124),
            [f"embedded servers: FAILED (exit 2), {RED}", f"containers: FAILED (exit 124), {GREEN}"],
            2,
        ),
        (
            (GREEN, 0),
            ("killed", 137),
            [f"embedded servers: {GREEN}", "containers: FAILED (exit 137), no counts: killed"],
            137,
        ),
    ],
)
def test_the_last_lines_say_whether_it_is_well(
    tmp_path: Path, embedded: tuple[str, int], containers: tuple[str, int], lines: list[str], code: int
):
    found, exit_code = said(tmp_path, embedded, containers)
    assert (found[: len(lines)], exit_code) == (lines, code)
