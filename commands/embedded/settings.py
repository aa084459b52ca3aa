"""Where the embedded stack keeps its files and which ports it uses, from the environment."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Collection
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
        """Free ports, below the range that the system gives to outgoing connections.

        A killed server needs its port again when it is restarted.
        """
        return cls(**dict(zip(cls.model_fields, free_ports(len(cls.model_fields)), strict=True)))

    def available(self, replaceable: Collection[str] = (), say: Callable[[str], None] = lambda sentence: None) -> Ports:
        """These ports, with a free one in place of each taken one in ``replaceable``; ``say`` names the replacements.

        Raises:
            EmbeddedError: two ports are the same, and neither is replaceable.
            PortTaken: a port is taken and not replaceable.
        """
        chosen: dict[int, str] = {}
        for name, port in sorted(self, key=lambda item: item[0] in replaceable):
            variable = variable_of(name)
            if name in replaceable and (port in chosen or not is_free(port)):
                taken, port = port, next(p for p in free_ports(len(chosen) + 1) if p not in chosen)
                say(f"Port {taken} on {LOOPBACK} is taken; using {port} instead. {variable}=<port> chooses another.")
            elif port in chosen:
                raise EmbeddedError(f"{variable}={port} is also the port of {chosen[port]}; choose different ports.")
            elif not is_free(port):
                raise PortTaken(
                    f"{variable}={port}: this port on {LOOPBACK} is taken; stop the program that listens there, or "
                    "choose another port."
                )
            chosen[port] = name
        return Ports(**{name: port for port, name in chosen.items()})


def variable_of(port_name: str) -> str:
    """The environment variable that sets a field of `Ports`."""
    return f"RETAIL_STREAM_{port_name.upper()}_PORT"


def free_ports(wanted: int) -> list[int]:
    """That many different ports that are free now."""
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
    """Whether a server accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


class EmbeddedSettings(Settings):
    """The state and cache directories, and the ports; read by `retail_stream.settings.load`."""

    retail_stream_home: Path | None = None
    retail_stream_cache: Path | None = None
    retail_stream_kafka_port: Port = 29092
    retail_stream_kafka_controller_port: Port = 29093
    retail_stream_registry_port: Port = 28081
    retail_stream_registry_management_port: Port = 28082
    retail_stream_postgres_port: Port = 25432

    @property
    def ports(self) -> Ports:
        """The ports that variables chose, else the defaults."""
        return Ports(**{name: getattr(self, variable_of(name).lower()) for name in Ports.model_fields})

    @property
    def default_ports(self) -> frozenset[str]:
        """The names of the ports that no variable chose."""
        return frozenset(n for n in Ports.model_fields if variable_of(n).lower() not in self.model_fields_set)

    @property
    def home(self) -> Path:
        """The one directory with the servers' state."""
        if self.retail_stream_home is not None:
            return self.retail_stream_home.expanduser().absolute()
        if os.geteuid() == 0:
            # Postgres runs as another user, who usually may not enter /root.
            return Path("/var/lib/retail-stream")
        return _xdg("XDG_STATE_HOME", ".local/state") / "retail-stream"

    @property
    def cache(self) -> Path:
        """The directory of downloads; several stacks may share it."""
        if self.retail_stream_cache is not None:
            return self.retail_stream_cache.expanduser().absolute()
        return _xdg("XDG_CACHE_HOME", ".cache") / "retail-stream"


def _xdg(variable: str, default: str) -> Path:
    # The XDG specification: ignore a relative path.
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else Path.home() / default
