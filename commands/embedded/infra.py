"""What `retail-stream infra` does: run the stack, in front or detached, find it, stop it, delete its state.

Standard output holds nothing but the export lines; sentences go to standard error.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from commands.embedded.errors import EmbeddedError
from commands.embedded.home import Home
from commands.embedded.programs import install
from commands.embedded.settings import EmbeddedSettings
from commands.embedded.stack import AlreadyRunning, Stack

_START_S = 180.0
_STOP_S = 30.0
_INTERRUPTED = 130
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(sentence: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def print_exports(env: dict[str, str]) -> None:
    """`export NAME=value` lines on standard output, for `eval`."""
    for name, value in env.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, and SIGINT also where a shell has us ignore it (`infra &`)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(settings: EmbeddedSettings) -> None:
    """Run the stack until SIGINT or SIGTERM; if it runs already, print its variables and return.

    A signal while it starts ends the program with exit code 130.
    """
    stack = Stack(settings.home, settings.ports, cache=settings.cache, say=say)
    ready = False
    try:
        with stopped_by_signals(), stack:
            print_exports(stack.env)
            say("Kafka, the schema registry and Postgres are ready until Ctrl-C or `retail-stream infra --stop`.")
            ready = True
            threading.Event().wait()
    except AlreadyRunning:
        say(f"The stack in {settings.home} is already running.")
        print_exports(wait_for_env(stack.home))
    except KeyboardInterrupt:
        if not ready:
            say("The stack was stopped while it was starting.")
            raise SystemExit(_INTERRUPTED) from None


def wait_for_env(home: Home, starter: subprocess.Popen[bytes] | None = None) -> dict[str, str]:
    """The variables of a stack that another process runs or is starting, once all of its servers have answered.

    Raises EmbeddedError if that process ends first.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        running = home.running()
        if running is not None and running.ready:
            return running.env
        if starter is None and not home.is_held("supervisor"):
            raise EmbeddedError(f"the stack in {home.path} stopped while it was starting.")
        if starter is not None and starter.poll() is not None and not home.is_held("supervisor"):
            # Its last sentence says why; it has been copied to standard error.
            raise SystemExit(starter.returncode or 1)
        time.sleep(0.1)
    raise EmbeddedError(f"the stack in {home.path} is not ready after {_START_S:.0f} s.")


def detach(settings: EmbeddedSettings) -> None:
    """Start the stack in a process of its own, unless it runs, and print its variables when it is ready."""
    home = Home(settings.home)
    if home.is_held("supervisor"):
        print_exports(wait_for_env(home))
        return
    home.make()
    if not home.is_held("servers"):
        settings.ports.check()
    install(settings.cache, say)  # here, where its progress is seen
    log = home.logs / "supervisor.log"
    with log.open("wb") as output:
        starter = subprocess.Popen(
            [sys.executable, "-m", "commands.embedded.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=os.environ | {"RETAIL_STREAM_HOME": str(settings.home), "RETAIL_STREAM_CACHE": str(settings.cache)},
            start_new_session=True,
            cwd=home.path,
        )
    finished = threading.Event()
    echo = threading.Thread(target=_echo, args=(log, finished))
    echo.start()
    try:
        with stopped_by_signals():
            env = wait_for_env(home, starter)
    except BaseException:
        starter.terminate()
        starter.wait()
        raise
    finally:
        finished.set()
        echo.join()
    print_exports(env)


def _echo(log: Path, finished: threading.Event) -> None:
    """Copy what the detached process says to our standard error while we wait for it."""
    with log.open() as lines:
        last = False
        while not last:
            last = finished.wait(0.1)
            for line in lines:
                say(line.rstrip("\n"))


def stop(settings: EmbeddedSettings) -> None:
    """Stop the stack if it runs, whoever started it, and return when nothing of it runs."""
    home = Home(settings.home)
    running = home.running()
    if running is None and not home.is_held("servers"):
        say(f"No stack is running in {home.path}.")
        return
    if running is not None:
        _signal(running.pid, signal.SIGTERM)
        if not home.wait_released("supervisor", _STOP_S):
            _signal(running.pid, signal.SIGKILL)
    if not home.wait_released("servers", _STOP_S):
        raise EmbeddedError(f"the servers in {home.path} do not stop.")
    say(f"The stack in {home.path} has stopped.")


def reset(settings: EmbeddedSettings) -> None:
    """Stop the stack if it runs and delete its state; the downloads in the cache stay."""
    stop(settings)
    home = Home(settings.home)
    if not home.is_ours():
        say(f"There is no state in {home.path}.")
        return
    held = home.lock("supervisor")
    if held is None:
        raise EmbeddedError(f"a stack was started in {home.path} again meanwhile.")
    home.delete()
    os.close(held)
    say(f"The state in {home.path} is deleted.")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
