"""Private servers for the benchmarks of the cleaner."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from benchmarks.peers.arguments import Arguments
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import Server
from commands.embedded.settings import Ports
from commands.embedded.stack import Stack
from commands.init import InitSettings, initialise
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS

SALES = topics.raw(Entity.SALES)
CLEAN, DEAD = topics.clean(Entity.SALES), topics.dlq(Entity.SALES)
SCHEMA_FILE = SCHEMAS / "raw" / "sales.avsc"
PARTITIONS = 4
# A member that crashed leaves its group after 45 s. Kafka refuses to move the group's offsets before that.
_PATIENCE_S = 90.0


@dataclass(frozen=True)
class World:
    """Private servers with the pipeline's topics. ``env``: for the services; ``broker``: the broker's process id."""

    connections: Connections
    env: dict[str, str]
    folder: Path
    broker: int
    processes: ProcessGroup
    admin: AdminClient

    def ends(self, *names: str) -> dict[tuple[str, int], int]:
        """Log end offset by topic and partition."""
        wanted = {TopicPartition(t, p): OffsetSpec.latest() for t in names for p in range(PARTITIONS)}
        answers = self.admin.list_offsets(wanted, request_timeout=10)
        return {(tp.topic, tp.partition): f.result().offset for tp, f in answers.items()}

    def count(self, *names: str) -> int:
        """Records in topics without transactions."""
        return sum(self.ends(*names).values())

    def arguments(self, group: str) -> Arguments:
        """For a peer: a group, a folder and output topics of its own, made here."""
        clean, dead = f"{group}.clean", f"{group}.dlq"
        for made in self.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (clean, dead)]).values():
            made.result(30)
        # New partitions have no leader yet.
        _eventually(lambda: self.ends(clean, dead))
        state = self.folder / group
        state.mkdir()
        servers = self.connections.kafka_bootstrap_servers
        return Arguments(servers, group, SALES, clean, dead, PARTITIONS, str(SCHEMA_FILE), str(state))

    def rewind(self, group: str) -> None:
        """Let a group read the sales from the beginning again; its members are gone or about to be."""
        self.place(group, {(SALES, p): 0 for p in range(PARTITIONS)})

    def place(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Let a group read on from these offsets; its members are gone or about to be."""
        beginning = [TopicPartition(*key, offset) for key, offset in offsets.items()]
        asking = clients.consumer(self.connections, group)
        try:
            _eventually(lambda: asking.commit(offsets=beginning, asynchronous=False))
        finally:
            asking.close()


def _eventually(attempt: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            attempt()
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def world() -> Iterator[World]:
    """A broker, a registry and a database of our own, initialised."""
    with tempfile.TemporaryDirectory(prefix="stack-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with Stack(folder / "state", Ports.free()) as stack, ProcessGroup() as processes:
            variables = {key.lower(): value for key, value in stack.env.items()}
            initialise(InitSettings.model_validate(variables))
            connections = Connections(**variables)  # type: ignore[arg-type]
            broker = stack.pid(Server.KAFKA)
            yield World(connections, stack.env, folder, broker, processes, clients.admin(connections))
