"""Kafka's own console tools, from the same jars as the broker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from commands.embedded import java
from commands.embedded.home import Home
from commands.embedded.programs import install
from commands.embedded.servers import Server
from commands.embedded.settings import EmbeddedSettings

_BOOTSTRAP = "--bootstrap-server"
_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


class Tool(StrEnum):
    """The value is the tool's main class."""

    TOPICS = "org.apache.kafka.tools.TopicCommand"
    CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def with_bootstrap(arguments: Sequence[str], environment: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    """The arguments with a bootstrap server added, unless they name one or ask for help.

    `running`: the variables of the embedded stack if it runs; the environment takes precedence.
    """
    servers = environment.get(_VARIABLE) or running.get(_VARIABLE)
    named = any(argument.split("=")[0] in (_BOOTSTRAP, "--help", "--version") for argument in arguments)
    return [*arguments] if named or not servers else [_BOOTSTRAP, servers, *arguments]


def become(tool: Tool, arguments: Sequence[str], settings: EmbeddedSettings) -> None:
    """Replace this process by the tool, with its exit code, signals and streams; does not return."""
    from commands.embedded.infra import say

    programs = install(settings.cache, say)
    running = Home(settings.home).running()
    argv = [
        *(java.java(), *java.SMALL, "-Xmx256m"),
        *filter(None, [programs.aot(Server.KAFKA)]),
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('console_tools.log4j2.properties')}",
        *("-cp", java.class_path(programs.kafka), tool.value),
        *with_bootstrap(arguments, os.environ, running.env if running else {}),
    ]
    os.execv(argv[0], [str(part) for part in argv])  # noqa: S606  (that there is no shell is the point)
