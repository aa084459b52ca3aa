"""The start and the end that all services have in common."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.eventually import eventually
from tests.harness.services import Services

SERVICES = ("generator", "cleaner", "scd_merger", "aggregator")
#: Servers that do not answer.
AWAY = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:9",
    "DATABASE_URL": "postgresql://127.0.0.1:9/x",
}

START = """
import sys
from retail_stream.errors import *
from retail_stream.service import program
from retail_stream.service.program import run_program
from retail_stream.settings import Settings
from retail_stream.waiting import Stopped
"""


def run(work: str) -> subprocess.CompletedProcess[str]:
    """A program that prints what :func:`run_program` returns."""
    code = f"{START}\ndef work(program, settings):\n    {work}\nprint(run_program('tester', Settings, work))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("work", "code", "last"),
    [
        ("pass", 0, "tester stopped exit_code=0"),
        ("return 3", 3, "tester stopped exit_code=3"),
        ("raise Stopped", 0, "tester stopped exit_code=0"),
        ("program.stop.set(); program.wait(print)", 0, "tester stopped exit_code=0"),
        ("raise SettingsError('A=1 is wrong.')", 2, "A=1 is wrong."),
        ("raise PoisonRecord('sales.clean/0@7: no.')", 1, "exit_code=1 service=tester why='sales.clean/0@7: no.'"),
        ("raise Unavailable('Kafka is away.')", 2, "exit_code=2 service=tester why='Kafka is away.'"),
    ],
)
def test_the_end_of_a_program_is_its_exit_code_and_one_line(work: str, code: int, last: str) -> None:
    done = run(work)
    assert done.stdout == f"{code}\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert last in " ".join(lines[0].split())


def test_an_error_that_is_not_ours_is_a_crash_with_its_traceback() -> None:
    done = run("raise ZeroDivisionError('why')")
    assert (done.returncode, done.stdout) == (1, "")
    assert "crashed" in done.stderr
    assert "ZeroDivisionError: why" in done.stderr


#: A call of the Kafka client, which no handler of Python's interrupts.
CALL = "from confluent_kafka.admin import AdminClient as A; A({'bootstrap.servers': '127.0.0.1:9', 'log_level': 0})"


@pytest.mark.parametrize("before", ["", "program.starts(); "])
def test_a_stop_in_the_middle_of_a_wait_ends_the_program(before: str) -> None:
    work = f"{before}program.wait(lambda: (print('waits', flush=True), (_ for _ in ()).throw(Unavailable('Away.'))))"
    code = f"{START}\ndef work(program, settings):\n    {work}\nsys.exit(run_program('tester', Settings, work))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    # By then a pause is 5 s.
    assert [child.stdout.readline() for _ in range(6)] == ["waits\n"] * 6
    child.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert "tester stopped" in child.communicate(timeout=20)[1]
    assert child.returncode == 0
    assert time.monotonic() - began < 4.5


def test_before_its_start_a_program_ends_also_in_a_call_of_the_kafka_client() -> None:
    work = f"{CALL}.list_topics(timeout=60)"
    code = f"{START}\ndef work(program, settings):\n    print('calls', flush=True)\n    {work}\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}sys.exit(run_program('tester', Settings, work))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "calls\n"
    child.send_signal(signal.SIGTERM)
    assert "tester stopped" in child.communicate(timeout=20)[1]
    assert child.returncode == 0


def test_each_service_that_waits_for_its_servers_ends_by_a_signal(tmp_path: Path) -> None:
    with ExitStack() as exits:
        running = {name: exits.enter_context(Services(AWAY, tmp_path / name)).start(name) for name in SERVICES}
        eventually(lambda: all("/metrics" in service.log() for service in running.values()), "all have started")
        for name, service in running.items():
            assert service.stop(within_s=5) == 0
            assert f"{name} stopped" in service.log()
