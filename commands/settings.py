"""Settings of a command: the servers come from the environment, else from the running embedded stack."""

import os
from typing import TypeVar

from commands.embedded.home import Home
from commands.embedded.settings import EmbeddedSettings
from retail_stream.service import logs
from retail_stream.settings import Connections, Settings, load

S = TypeVar("S", bound=Settings)


def start(command: str, settings: type[S]) -> S:
    """Configure the log of ``command`` and read its settings; see :func:`use_running_stack`.

    Raises:
        SettingsError: a variable is missing or wrong; one sentence for each.
    """
    logs.configure(command)
    use_running_stack()
    return load(settings)


def use_running_stack() -> None:
    """Set the variables of the servers to the running embedded stack, if there is one.

    A variable of :class:`Connections`, Kafka's security included, switches this off. Then all servers come from the
    environment.
    """
    if not any(name.upper() in os.environ for name in Connections.model_fields):
        running = Home(load(EmbeddedSettings).home).running()
        if running is not None:
            os.environ.update(running.env)
