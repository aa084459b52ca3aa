"""The last lines of `make test-all`, which .ci/run repeats: what failed, or was cut off, is not passed over."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GREEN, RED = "===== 3 passed in 1.00s =====", "===== 1 failed, 2 passed in 1.00s ====="


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def run(folder: Path, script: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of a script of ours in ``folder``, whose programs in ``bin`` go before the machine's."""
    program(folder / script, (ROOT / script).read_text())
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder), "OFFLINE_IMAGES": str(folder)}
    return subprocess.run([str(folder / script)], capture_output=True, text=True, env=env | given, timeout=60)


def last_lines(folder: Path, embedded: tuple[str, int], containers: tuple[str, int]) -> tuple[list[str], int]:
    """The last three lines and the exit code where the two halves print a line and end with a code."""
    has_docker = containers[1] != 3
    program(folder / "bin" / "docker", f"exit {0 if has_docker else 1}")
    program(
        folder / "bin" / "make",
        f"""case "$1" in
            test-embedded) echo "{embedded[0]}"; exit {embedded[1]} ;;
            test-containers) [[ "$2" == *three* ]] || {{ echo "{containers[0]}"; exit {containers[1]}; }} ;;
        esac""",
    )
    done = run(folder, "tests/everything")
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
    found, exit_code = last_lines(tmp_path, embedded, containers)
    assert (found[: len(lines)], exit_code) == (lines, code)


@pytest.mark.parametrize(
    ("turn", "runs", "last"),
    [
        ("1/6", 2, "together: 9 passed"),
        ("2/6", 1, "three brokers: NOT RUN, LONG_TESTS=2/6 is not their turn"),
        ("", 2, "together: 9 passed"),
    ],
)
def test_three_brokers_have_every_second_turn(tmp_path: Path, turn: str, runs: int, last: str):
    program(tmp_path / "bin" / "docker", "exit 0")
    program(tmp_path / "bin" / "make", f'case "$1" in test-embedded | test-containers) echo "{GREEN}" ;; esac')
    done = run(tmp_path, "tests/everything", LONG_TESTS=turn)
    assert done.returncode == 0
    assert last in done.stdout.splitlines()[-2:]
    assert f"containers: {' '.join([GREEN] * runs)}" in done.stdout.splitlines()


FLAKY = "tests/integration/test_x.py::test_y[a/b]"


@pytest.mark.parametrize(
    ("failed", "alone", "lines", "code"),
    [
        ([f"FAILED {FLAKY} - x"], 0, [f"failed, then passed alone: {FLAKY}"], 0),
        ([f"FAILED {FLAKY} - x", f"ERROR {FLAKY} - x"], 0, [f"failed, then passed alone: {FLAKY}"], 0),
        ([f"FAILED {FLAKY} - x"], 2, [], 2),
        # Not run again: no name, a test that needs no servers, more than three.
        ([], 0, [], 2),
        ([f"FAILED {FLAKY} - x", "FAILED tests/unit/test_z.py::test_z - x"], 0, [], 2),
        ([f"FAILED tests/integration/test_x.py::test_{i} - x" for i in range(4)], 0, [], 2),
    ],
)
def test_what_failed_on_servers_is_run_once_more_alone_and_named(
    tmp_path: Path, failed: list[str], alone: int, lines: list[str], code: int
):
    shown = "\n".join(f'echo "{line}"' for line in failed)
    program(tmp_path / "bin" / "docker", "exit 1")
    program(
        tmp_path / "bin" / "make",
        f"""[ "$2" = TEST_WORKERS=0 ] || {{ {shown or ":"}
        echo "{RED}"; exit 2; }}
        [ "$3" = PYTEST_ARGS=tests/integration/test_x.py ] && exit {alone}""",
    )
    done = run(tmp_path, "tests/everything")
    summary = f"embedded servers: {'' if code == 0 else 'FAILED (exit 2), '}{RED}"
    end = [summary, "containers: NOT RUN, as no Docker daemon answers here", *lines, "together: 2 passed, 1 failed"]
    assert (done.stdout.splitlines()[-len(end) :], done.returncode) == (end, code)


@pytest.mark.parametrize(("answer", "code"), [("exit 0", 0), ("exit 2", 2)])
def test_ci_ends_with_the_counts_and_fails_as_the_tests_do(tmp_path: Path, answer: str, code: int):
    for name in ("apt-get", "chromium", "promtool"):
        program(tmp_path / "bin" / name, "exit 0")
    counts = ["embedded servers: 1", "containers: 2", "together: 3"]
    lines = "\n".join(f'echo "{line}"' for line in counts)
    program(
        tmp_path / "bin" / "make",
        f'[ "$1" = test-all ] || exit 0\n{lines}\n[ {code} = 0 ] || echo "*** Error"\n{answer}',
    )
    done = run(tmp_path, ".ci/run")
    assert (done.stdout.splitlines()[-3:], done.returncode) == (counts, code)
