"""The servers of the stack, and the files that they are started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from signal import SIGTERM, Signals


class Server(StrEnum):
    KAFKA = "kafka"
    REGISTRY = "registry"
    POSTGRES = "postgres"


@dataclass(frozen=True)
class Launch:
    """How to start a server: `user` is the (user id, group id) to run as, `env` the whole environment."""

    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: tuple[int, int] | None = None
    stop_signal: Signals = SIGTERM


# The environment of the servers. The caller's variables (JAVA_TOOL_OPTIONS, QUARKUS_*, PG*) must not reach them.
PLAIN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
