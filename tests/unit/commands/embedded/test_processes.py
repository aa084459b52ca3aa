"""Processes of a group end with it, and with us when we are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands.embedded.errors import ServerDied
from commands.embedded.processes import Process, ProcessGroup
from tests.harness.eventually import eventually

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
)
PARENT = """
import sys, time
from pathlib import Path
from commands.embedded.processes import ProcessGroup

with ProcessGroup() as group:
    child = group.spawn("sleeper", ["sleep", "600"], log=Path(sys.argv[1]))
    print(child.pid, flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that nobody has reaped yet does not run either.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int, seconds: float = 20) -> None:
    eventually(lambda: gone(pid), f"process {pid} ends", seconds)


def wait_for_output(process: Process, text: str) -> None:
    eventually(lambda: text in process.log.read_text(), f"it says {text!r}", 20)


def test_the_children_of_a_killed_parent_end(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path / "log"], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    wait_until_gone(child)


def test_the_end_of_the_group_is_the_end_of_its_processes_also_of_a_stubborn_one(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        quiet = group.spawn("quiet", ["sleep", "600"], log=tmp_path / "quiet")
        stubborn = group.spawn("stubborn", [sys.executable, "-c", STUBBORN], log=tmp_path / "stubborn")
        wait_for_output(stubborn, "here")
        group.stop(grace_s=0.2)
        assert quiet.poll() == -signal.SIGTERM
        assert stubborn.poll() == -signal.SIGKILL


def test_kill_takes_the_children_of_the_process_too(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        shell = group.spawn("shell", ["sh", "-c", "sleep 600 & echo $!; wait"], log=tmp_path / "log")
        wait_for_output(shell, "\n")
        grandchild = int(shell.log.read_text())
        shell.kill()
        assert shell.poll() == -signal.SIGKILL
        wait_until_gone(grandchild)


def test_a_process_has_exactly_the_environment_it_was_given(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        group.run("env", ["/usr/bin/env"], log=tmp_path / "log", env={"A": "b c"})
    lines = set((tmp_path / "log").read_text().splitlines())
    assert "A=b c" in lines
    assert not any(line.startswith("HOME=") for line in lines)


def test_a_program_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with ProcessGroup() as group, pytest.raises(ServerDied, match=r"exit code 3.*no such luck"):
        group.run("unlucky", ["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "log")
