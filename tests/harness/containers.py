"""The servers of docker-compose.yml as containers, for the tests that otherwise run on the embedded ones.

The same file that people start, so the same images, tags and settings; a project, ports and volumes of the test's own.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from testcontainers.compose import DockerCompose

from commands.embedded.servers import Server
from commands.embedded.settings import Ports, free_ports

ROOT = Path(__file__).resolve().parents[2]
#: CI gives each run a prefix of its own, to take down what an interrupted run leaves.
_PREFIX = os.environ.get("RETAIL_STREAM_TEST_PROJECT", "retail-stream-test")
_READY_S = 120
_COMMAND_S = 600


class Project:
    """A compose project of the test's own, by default of the one file; nothing is left of it afterwards.

    ``settings``: as they would stand in ``.env``.
    """

    def __init__(self, folder: Path, settings: dict[str, str], files: Sequence[str] = ("docker-compose.yml",)) -> None:
        self.ports = Ports.free()
        (self.page,) = free_ports(1)
        self.name = f"{_PREFIX}-{uuid.uuid4().hex[:8]}"
        self.settings = {
            "KAFKA_PORT": str(self.ports.kafka),
            "REGISTRY_PORT": str(self.ports.registry),
            "POSTGRES_PORT": str(self.ports.postgres),
            "DASHBOARD_PORT": str(self.page),
            # What `make test-images` has built; by default they are named after the project.
            "RETAIL_STREAM_IMAGES": "retail-stream",
            **settings,
        }
        # Not the developer's own .env.
        chosen = folder / "compose.env"
        chosen.touch()
        compose = DockerCompose(ROOT, compose_file_name=list(files), env_file=str(chosen))
        self._command = [*compose.docker_compose_command(), "--project-name", self.name]

    @property
    def env(self) -> dict[str, str]:
        """Where the servers are for programs of this machine."""
        password = quote(self.settings.get("POSTGRES_PASSWORD", "retail"), safe="")
        brokers = [p for name, p in self.settings.items() if name in ("KAFKA_PORT", "KAFKA_2_PORT", "KAFKA_3_PORT")]
        return {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(f"127.0.0.1:{port}" for port in brokers),
            "SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{self.ports.registry}/apis/ccompat/v7",
            "DATABASE_URL": f"postgresql://retail:{password}@127.0.0.1:{self.ports.postgres}/retail",
        }

    def __call__(self, *arguments: str, **settings: str) -> str:
        """``docker compose …`` with further ``settings``: its output; fails with what it said."""
        done = self._run(arguments, settings)
        if done.returncode:
            said = f"{done.stdout}{done.stderr}\n{self.logs()}"
            raise AssertionError(f"docker compose {' '.join(arguments)} → {done.returncode}: {said}")
        return done.stdout

    def logs(self) -> str:
        """The last lines of every container."""
        return self._run(("logs", "--tail", "12", "--no-color"), {}).stdout

    def _run(self, arguments: Sequence[str], settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        # What is exported here would go before any file; compose's own variables would even choose another project.
        # Services in containers keep the default session time: so many on one machine pause each other for seconds.
        left_out = ("COMPOSE_", "KAFKA_SESSION_TIMEOUT_S")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env={**outside, **self.settings, **settings},
            capture_output=True,
            text=True,
            # `make test-containers` has built and pulled the images before.
            timeout=_COMMAND_S,
        )

    def containers(self, service: str = "", *, all_: bool = False) -> list[str]:
        """Container ids of a service, or of all; ``all_``: those that have ended, too."""
        return self("ps", "--quiet", *(["--all"] if all_ else []), *([service] if service else [])).split()

    @contextmanager
    def here(self) -> Iterator[Self]:
        """Whatever happens inside, afterwards nothing is left."""
        try:
            yield self
        finally:
            self("down", "--volumes", "--timeout", "5")


class ContainerServers:
    """The broker, the registry and Postgres, without the services."""

    def __init__(self, folder: Path) -> None:
        self._project = Project(folder, {})
        self._here = self._project.here()

    @property
    def env(self) -> dict[str, str]:
        """The three variables that services are configured with."""
        return self._project.env

    def __enter__(self) -> Self:
        self._here.__enter__()
        try:
            self._project("up", "--wait", "--quiet-pull", *Server)
            wait_for_a_produce(self.env["KAFKA_BOOTSTRAP_SERVERS"])
        except BaseException as e:
            self._here.__exit__(type(e), e, e.__traceback__)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._here.__exit__(None, None, None)

    def kill(self, server: Server) -> None:
        """SIGKILL; the server stays down until `start`."""
        self._project("kill", "--signal", "KILL", server)

    def start(self, server: Server) -> None:
        """Start it again; `wait_ready` says when it answers."""
        self._project("start", server)

    def wait_ready(self, server: Server) -> None:
        """Wait until it answers."""
        self._project("up", "--wait", "--no-recreate", server)
        if server is Server.KAFKA:
            wait_for_a_produce(self.env["KAFKA_BOOTSTRAP_SERVERS"])


def wait_for_a_produce(brokers: str, within_s: float = _READY_S) -> None:
    """Wait until a record is acknowledged in a topic made for it: what a log line and an open port do not say."""
    quiet = {"bootstrap.servers": brokers, "log_level": 0, "broker.address.family": "v4"}
    topic = f"probe-{uuid.uuid4().hex[:8]}"
    deadline = time.monotonic() + within_s
    admin, producer = AdminClient(quiet), Producer({**quiet, "acks": "all", "message.timeout.ms": within_s * 1000})
    delivered: list[object] = []
    while True:
        try:
            admin.create_topics([NewTopic(topic, 1, 1)], request_timeout=5)[topic].result(10)
            break
        except KafkaException:
            assert time.monotonic() < deadline, f"Kafka at {brokers} made no topic within {within_s} s"
    producer.produce(topic, b"probe", on_delivery=lambda error, _: delivered.append(error))
    producer.flush(within_s)
    assert delivered == [None], f"Kafka at {brokers} took no record within {within_s} s: {delivered}"
    admin.delete_topics([topic])[topic].result(30)
