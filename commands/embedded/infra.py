"""`retail-stream infra`: run the stack in the foreground or detached, find it, stop it, delete its state.

Standard output holds only the export lines; sentences go to standard error.
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
    """Write one line to standard error."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def print_exports(env: dict[str, str]) -> None:
    """Write `export NAME=value` lines to standard output, for `eval`."""
    for name, value in env.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGHUP and SIGINT into KeyboardInterrupt, even if a shell made us ignore SIGINT (`infra &`)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(settings: EmbeddedSettings) -> None:
    """Run the stack until SIGINT or SIGTERM; if it runs already, only print its variables.

    A signal while it starts ends the program with exit code 130.
    """
    stack = Stack(settings.home, settings.ports, replaceable=settings.default_ports, cache=settings.cache, say=say)
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
            say("The stack was stopped before it was ready.")
            raise SystemExit(_INTERRUPTED) from None


def wait_for_env(home: Home, starter: subprocess.Popen[bytes] | None = None) -> dict[str, str]:
    """Wait until all servers of a stack that another process runs have answered; returns its variables.

    Raises EmbeddedError if that process ends first. If `starter` ends first, exits with its exit code.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        running = home.running()
        if running is not None and running.ready:
            return running.env
        if starter is None and not home.is_held("supervisor"):
            raise EmbeddedError(f"The stack in {home.path} stopped while it was starting; see {home.logs}.")
        if starter is not None and starter.poll() is not None and not home.is_held("supervisor"):
            # Its last sentence, which has been copied to standard error, gives the reason.
            raise SystemExit(starter.returncode or 1)
        time.sleep(0.1)
    raise EmbeddedError(f"The stack in {home.path} is not ready after {_START_S:.0f} s; see {home.logs}.")


def detach(settings: EmbeddedSettings) -> None:
    """Start the stack in a process of its own unless it runs; print its variables when it is ready."""
    home = Home(settings.home)
    if home.is_held("supervisor"):
        print_exports(wait_for_env(home))
        return
    home.make()
    if not home.is_held("servers"):
        settings.ports.available(settings.default_ports)  # fails now rather than after the downloads
    install(settings.cache, say)  # here, where the user sees the progress
    log = home.logs / "supervisor.log"
    with log.open("wb") as output:
        starter = subprocess.Popen(
            [sys.executable, "-m", "commands.cli", "infra"],
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
    """Copy the log of the detached process to our standard error until `finished`."""
    with log.open() as lines:
        last = False
        while not last:
            last = finished.wait(0.1)
            for line in lines:
                say(line.rstrip("\n"))


def stop(settings: EmbeddedSettings) -> None:
    """Stop the stack if it runs, and return when all its processes have ended."""
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
        raise EmbeddedError(f"The servers in {home.path} do not stop; see {home.logs}.")
    say(f"The stack in {home.path} has stopped.")


def reset(settings: EmbeddedSettings) -> None:
    """Stop the stack if it runs and delete its state; the downloads in the cache stay."""
    stop(settings)
    home = Home(settings.home)
    if not home.is_ours():
        say(f"{home.path} holds no state of a stack.")
        return
    held = home.lock("supervisor")
    if held is None:
        raise EmbeddedError(f"Another process has started the stack in {home.path} again; its state is kept.")
    home.delete()
    os.close(held)
    say(f"The state in {home.path} is deleted.")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
