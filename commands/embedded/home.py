"""The state directory of one stack: its locks, the description of the running stack, its deletion.

The kernel releases both locks when their holders end. The process that manages the stack holds `supervisor.lock`. That
process and its guardian hold `servers.lock`, until the last server has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from commands.embedded.errors import EmbeddedError
from commands.embedded.postgres_user import check_reach

_MARK = ".retail-stream"


@dataclass(frozen=True)
class Running:
    """A running stack: the pid of its managing process, the three variables, and whether all servers have answered."""

    pid: int
    env: dict[str, str]
    ready: bool


class Home:
    """The directory at `path`; `make` creates it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._running = path / "running.json"

    def make(self) -> None:
        """Create the directory; raises EmbeddedError if it is not ours or the servers could not use it."""
        mark = self.path / _MARK
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                # Postgres runs as another user, who has to enter it.
                self.path.chmod(0o711)
            if not mark.exists():
                if any(self.path.iterdir()):
                    raise EmbeddedError(
                        f"RETAIL_STREAM_HOME={self.path} holds files of other programs; choose an empty directory, or "
                        "one that does not exist yet."
                    )
                mark.touch()
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"RETAIL_STREAM_HOME={self.path} cannot be written ({error.strerror}); choose another directory."
            ) from error
        check_reach(self.path)

    def is_ours(self) -> bool:
        """Whether `make` made it."""
        return (self.path / _MARK).exists()

    def lock(self, name: str) -> int | None:
        """A descriptor that holds the lock until it is closed; None if another process holds it."""
        while True:
            try:
                descriptor = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            except PermissionError as error:
                raise EmbeddedError(
                    f"RETAIL_STREAM_HOME={self.path} belongs to another user; choose another directory."
                ) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path / f"{name}.lock")):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)  # it was deleted by a reset while we opened it

    def is_held(self, name: str) -> bool:
        """Whether any process holds the lock."""
        if not (self.path / f"{name}.lock").exists():
            return False
        descriptor = self.lock(name)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def wait_released(self, name: str, timeout_s: float) -> bool:
        """Wait until no process holds the lock; False if one still does after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while self.is_held(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def write_running(self, running: Running) -> None:
        """Describe the running stack for other processes."""
        fresh = self._running.with_suffix(".new")
        fresh.touch(mode=0o600)  # it holds the database's password
        fresh.write_text(json.dumps(asdict(running)))
        fresh.rename(self._running)

    def remove_running(self) -> None:
        """Remove the description of the running stack."""
        self._running.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The running stack; None if none runs, or it has not described itself yet."""
        if not self.is_held("supervisor"):
            return None
        try:
            return Running(**json.loads(self._running.read_text()))
        except FileNotFoundError:
            return None

    def delete(self) -> None:
        """Delete everything in it; the caller makes sure that nothing runs."""
        if not self.is_ours():
            return
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _MARK:
                entry.unlink()
        (self.path / _MARK).unlink()
        with contextlib.suppress(OSError):  # a mount point, or one whose parent is not ours
            self.path.rmdir()
