"""Where the embedded stack keeps its files and which ports it uses, from the environment."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from commands.embedded.errors import EmbeddedError, PortTaken
from retail_stream.settings import Settings

LOOPBACK = "127.0.0.1"
Port = Annotated[int, Field(ge=1024, le=65535, description="a port number from 1024 to 65535")]


class Ports(BaseModel, frozen=True):
    """The five TCP ports of one stack, all on the loopback address and all different."""

    kafka: Port = 29092
    kafka_controller: Port = 29093
    registry: Port = 28081
    registry_management: Port = 28082
    postgres: Port = 25432

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody listens on now, below the range that the system gives to outgoing connections.

        A server that is killed and started again needs its port to be still there.
        """
        return cls(**dict(zip(cls.model_fields, free_ports(len(cls.model_fields)), strict=True)))

    def check(self) -> None:
        """Raise EmbeddedError if two ports are the same, PortTaken for the first one that somebody listens on."""
        seen: dict[int, str] = {}
        for name, port in self:
            variable = variable_of(name)
            if port in seen:
                raise EmbeddedError(f"{variable}={port} is the port of {seen[port]} too: allowed is one that differs.")
            if not is_free(port):
                raise PortTaken(
                    f"port {port} on {LOOPBACK} is taken: stop what listens there, or choose another "
                    f"with {variable}=<port>."
                )
            seen[port] = variable


def variable_of(port_name: str) -> str:
    """The environment variable that sets a field of `Ports`."""
    return f"RETAIL_STREAM_{port_name.upper()}_PORT"


def free_ports(wanted: int) -> list[int]:
    """That many ports, all different, on which nobody listens now."""
    chosen: list[int] = []
    while len(chosen) < wanted:
        port = random.SystemRandom().randrange(12_000, 28_000)
        if port not in chosen and is_free(port):
            chosen.append(port)
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


class EmbeddedSettings(Settings):
    """The state and cache directories and the ports; read it with `retail_stream.settings.load`."""

    retail_stream_home: Path | None = None
    retail_stream_cache: Path | None = None
    retail_stream_kafka_port: Port = 29092
    retail_stream_kafka_controller_port: Port = 29093
    retail_stream_registry_port: Port = 28081
    retail_stream_registry_management_port: Port = 28082
    retail_stream_postgres_port: Port = 25432

    @property
    def ports(self) -> Ports:
        return Ports(**{name: getattr(self, variable_of(name).lower()) for name in Ports.model_fields})

    @property
    def home(self) -> Path:
        """The one directory with the servers' state."""
        if self.retail_stream_home is not None:
            return self.retail_stream_home.expanduser().absolute()
        if os.geteuid() == 0:
            # Postgres runs as another user, who seldom may enter /root.
            return Path("/var/lib/retail-stream")
        return _xdg("XDG_STATE_HOME", ".local/state") / "retail-stream"

    @property
    def cache(self) -> Path:
        """The directory for downloads; several stacks may share it."""
        if self.retail_stream_cache is not None:
            return self.retail_stream_cache.expanduser().absolute()
        return _xdg("XDG_CACHE_HOME", ".cache") / "retail-stream"


def _xdg(variable: str, default: str) -> Path:
    # The XDG rules: a relative path is to be ignored.
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else Path.home() / default
