"""The unprivileged user that runs Postgres if we are root, because Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands.embedded.errors import EmbeddedError

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class User:
    """A user of this system, by name and numbers."""

    name: str
    uid: int
    gid: int

    def identity(self) -> dict[str, Any]:
        """Arguments for subprocess."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_user(data: Path | None) -> User | None:
    """The user that runs Postgres: None for ourselves; for root the owner of `data` if it exists, else a known user.

    Raises EmbeddedError if the system has none of the known users.
    """
    if os.geteuid() != 0:
        return None
    if data is not None:
        owner = data.stat()
        return User(f"uid {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        f"Postgres refuses to run as root, and this system has none of the users {', '.join(_CANDIDATES)}; create "
        "one of them, or run this as an ordinary user."
    )


def check_reach(home: Path) -> None:
    """Raise EmbeddedError if the user that will run Postgres may not enter the state directory."""
    user = server_user(None)
    if user is None:
        return
    enter = ["/bin/sh", "-c", 'cd -- "$0"', str(home)]
    try:
        entered = subprocess.run(enter, cwd="/", capture_output=True, check=False, **user.identity()).returncode == 0
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"Postgres refuses to run as root, and this process may not become the user {user.name} ({error}); "
            "run it as an ordinary user, or with the capabilities CAP_SETUID, CAP_SETGID and CAP_CHOWN."
        ) from error
    if not entered:
        raise EmbeddedError(
            f"RETAIL_STREAM_HOME={home}: the user {user.name} cannot enter it, but runs Postgres, which refuses to "
            "run as root; choose a directory that every user may enter."
        )
