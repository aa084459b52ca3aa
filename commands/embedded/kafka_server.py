"""Kafka as one node: broker and controller in one process (KRaft)."""

from __future__ import annotations

import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from commands.embedded import java
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import PLAIN_ENVIRONMENT, Launch
from commands.embedded.settings import LOOPBACK, Ports, is_listening

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = info
"""


def properties(directory: Path, ports: Ports) -> str:
    """The broker's configuration file."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.kafka_controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka},CONTROLLER://{LOOPBACK}:{ports.kafka_controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka}",
        "log.dirs": directory / "data",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # The least that KAFKA_SESSION_TIMEOUT_S may be; Kafka's default is 6 s.
        "group.min.session.timeout.ms": 1000,
        # One node holds every replica, and few groups need few partitions for their offsets.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        # The default buffer takes 128 MB, a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.recovery.threads.per.data.dir": 2,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def prepare(directory: Path, ports: Ports, jars: Sequence[Path], group: ProcessGroup, log: Path) -> None:
    """Write the configuration, and format the data directory unless a finished one exists."""
    directory.mkdir(exist_ok=True)
    (directory / "log4j2.properties").write_text(_LOG4J)
    config = directory / "server.properties"
    config.write_text(properties(directory, ports))
    # A killed broker leaves its unpacked native libraries here.
    shutil.rmtree(directory / "tmp", ignore_errors=True)
    (directory / "tmp").mkdir()
    formatted = directory / "formatted"
    if formatted.exists() and (directory / "data" / "meta.properties").exists():
        return
    shutil.rmtree(directory / "data", ignore_errors=True)
    # The tool would take an id that begins with "-" for an option. A zero byte in front makes it begin with "A".
    cluster = urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    group.run(
        "kafka's storage tool",
        _java(directory, jars, "", "128m", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config),
        env=PLAIN_ENVIRONMENT,
        log=log,
    )
    formatted.touch()


def launch(directory: Path, jars: Sequence[Path], aot: str) -> Launch:
    """How to start the broker; `aot` is an option of `java.reading` or `java.writing`."""
    argv = _java(directory, jars, aot, "512m", "kafka.Kafka", directory / "server.properties")
    return Launch(argv, env=PLAIN_ENVIRONMENT, cwd=directory)


def _java(directory: Path, jars: Sequence[Path], aot: str, heap: str, *rest: str | Path) -> list[str | Path]:
    logging = f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}"
    return java.command(aot, heap, directory / "tmp", logging, "-cp", java.class_path(jars), *rest)


def is_ready(ports: Ports) -> bool:
    """Whether the broker answers a metadata request."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    if not is_listening(ports.kafka):  # a client would complain on standard error
        return False
    try:
        client = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{ports.kafka}", "log_level": 0})
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False
