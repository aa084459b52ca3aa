"""The three servers together: started in parallel, restarted when they end, and stopped with this process.

with Stack(Path("/tmp/state"), Ports.free()) as stack:
    stack.env["KAFKA_BOOTSTRAP_SERVERS"]
    stack.kill(Server.KAFKA)
    stack.start(Server.KAFKA)
    stack.wait_ready(Server.KAFKA)
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Self

from commands.embedded import kafka_server, postgres_server, registry_server
from commands.embedded.errors import EmbeddedError, ServerDied
from commands.embedded.home import Home, Running
from commands.embedded.processes import Process, ProcessGroup
from commands.embedded.programs import Programs, install
from commands.embedded.servers import Launch, Server
from commands.embedded.settings import LOOPBACK, EmbeddedSettings, Ports

_READY_S = 180.0
_LOOK_EVERY_S = 0.1
# The least time between two starts of one server.
_RESTART_PAUSE_S = 5.0


class AlreadyRunning(EmbeddedError):
    """Another process manages a stack in this state directory."""


class Stack:
    """The embedded broker, registry and Postgres as a context manager; all three have answered inside it.

    `replaceable`: names of ports that are replaced by free ones if they are taken; `ports` then has the new ones.
    `restart`: start a server again if it ends in any way but by `kill`.
    `say`: called with sentences about the progress.
    """

    def __init__(
        self,
        home: Path,
        ports: Ports,
        *,
        replaceable: Collection[str] = (),
        cache: Path | None = None,
        restart: bool = True,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.home = Home(home.absolute())
        self.ports = ports
        self._replaceable = replaceable
        self._cache = cache or EmbeddedSettings().cache
        self._restart = restart
        self._say = say
        self._processes: dict[Server, Process] = {}
        self._started_at: dict[Server, float] = {}
        self._supervised: set[Server] = set()
        self._locks = {server: threading.RLock() for server in Server}
        self._stopping = threading.Event()
        self._exits = contextlib.ExitStack()

    @property
    def env(self) -> dict[str, str]:
        """The three variables that configure the services."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.ports.kafka}",
            "SCHEMA_REGISTRY_URL": f"http://{LOOPBACK}:{self.ports.registry}{registry_server.CONFLUENT_API}",
            "DATABASE_URL": postgres_server.url(self.home.path, self.ports),
        }

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            self._enter(exits)
            self._exits = exits.pop_all()
        return self

    def _enter(self, exits: contextlib.ExitStack) -> None:
        self.home.make()
        self._lock_home("supervisor", exits)
        exits.callback(self.home.remove_running)
        self.home.write_running(Running(os.getpid(), {}, ready=False))
        if not self.home.wait_released("servers", timeout_s=30):
            raise EmbeddedError(f"The servers of an earlier run in {self.home.path} do not stop; see {self.home.logs}.")
        servers = self._lock_home("servers", exits)
        self.ports = self.ports.available(self._replaceable, self._say)
        self._programs: Programs = install(self._cache, self._say)
        self._group = exits.enter_context(ProcessGroup(held=[servers]))
        exits.callback(self._stopping.set)
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(self._bring_up, [Server.KAFKA])]
            starts += [pool.submit(self._bring_up, [Server.POSTGRES, Server.REGISTRY])]
            try:
                for start in as_completed(starts):
                    start.result()
            except BaseException:
                self._stopping.set()
                raise
        self.home.write_running(Running(os.getpid(), self.env, ready=True))
        if self._restart:
            restarter = threading.Thread(target=self._restart_ended, name="restart servers", daemon=True)
            restarter.start()
            exits.callback(restarter.join)
            exits.callback(self._stopping.set)

    def _lock_home(self, name: str, exits: contextlib.ExitStack) -> int:
        descriptor = self.home.lock(name)
        if descriptor is None:
            raise AlreadyRunning(f"A stack is already running in {self.home.path}.")
        exits.callback(os.close, descriptor)
        return descriptor

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def _bring_up(self, servers: list[Server]) -> None:
        for server in servers:
            began = time.monotonic()
            log = self._log(server)
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
            self.start(server)
            self.wait_ready(server)
            self._say(f"{server} is ready after {time.monotonic() - began:.1f} s.")

    def _log(self, server: Server) -> Path:
        return self.home.logs / f"{server}.log"

    def _launch(self, server: Server) -> Launch:
        path, ports, log = self.home.path, self.ports, self._log(server)
        match server:
            case Server.KAFKA:
                kafka_server.prepare(path / "kafka", ports, self._programs.kafka, self._group, log)
                return kafka_server.launch(path / "kafka", self._programs.kafka, self._programs.aot(server))
            case Server.POSTGRES:
                return postgres_server.launch(path, ports, postgres_server.prepare(path, self._group, log))
            case Server.REGISTRY:
                storage = registry_server.postgres_storage(ports, postgres_server.ROLE, postgres_server.password(path))
                programs = self._programs
                return registry_server.launch(
                    path / "registry", ports, programs.registry, storage, programs.aot(server)
                )

    def start(self, server: Server) -> None:
        """Start a server unless it runs; `wait_ready` waits until it answers."""
        with self._locks[server]:
            running = self._processes.get(server)
            if running is not None and running.poll() is None:
                return
            launch = self._launch(server)
            self._processes[server] = self._group.spawn(
                server,
                launch.argv,
                env=launch.env,
                cwd=launch.cwd,
                user=launch.user,
                stop_signal=launch.stop_signal,
                log=self._log(server),
            )
            self._started_at[server] = time.monotonic()
            self._supervised.add(server)

    def kill(self, server: Server) -> None:
        """SIGKILL; the server stays down until `start`."""
        with self._locks[server]:
            self._supervised.discard(server)
            self._processes[server].kill()
            if server is Server.POSTGRES:
                postgres_server.kill_strays(self.home.path)

    def pid(self, server: Server) -> int:
        """Process id of a server."""
        return self._processes[server].pid

    def is_ready(self, server: Server) -> bool:
        """Whether the server answers a real request now."""
        match server:
            case Server.KAFKA:
                return kafka_server.is_ready(self.ports)
            case Server.POSTGRES:
                databases = (postgres_server.WAREHOUSE, registry_server.DATABASE)
                return postgres_server.is_ready(self.home.path, self.ports, databases)
            case Server.REGISTRY:
                return registry_server.is_ready(self.ports)

    def wait_ready(self, server: Server, timeout_s: float = _READY_S) -> None:
        """Wait until the server answers.

        Raises ServerDied if it ends first; EmbeddedError after `timeout_s` seconds, or if the stack is stopping.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready(server):
            process = self._processes[server]
            code = process.poll()
            if code is not None and server is Server.POSTGRES and postgres_server.is_early(process.last_lines()):
                self.start(server)
            elif code is not None and process is self._processes[server]:
                raise ServerDied(
                    f"{server} ended with exit code {code} before it answered; the last lines of {process.log}: "
                    f"{process.last_lines()}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{server} did not answer within {timeout_s:.0f} s; see {process.log}.")
            if self._stopping.wait(_LOOK_EVERY_S):
                raise EmbeddedError(f"{server} was stopped before it answered.")

    def _restart_ended(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            for server in Server:
                with self._locks[server]:
                    code = self._processes[server].poll()
                    lived = time.monotonic() - self._started_at[server]
                    if code is None or server not in self._supervised or lived < _RESTART_PAUSE_S:
                        continue
                    self._say(f"{server} ended with exit code {code}; it is being started again.")
                    self.start(server)
