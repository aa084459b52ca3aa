"""Settings of a command: from the environment, else the servers are those of the embedded stack that runs."""

import os
from typing import TypeVar

from retail_stream.settings import Connections, Settings, load

S = TypeVar("S", bound=Settings)


def connected(settings: type[S]) -> S:
    """As :func:`retail_stream.settings.load`, after looking for a running embedded stack where no server is named.

    Raises:
        SettingsError: one sentence for each variable that is missing or wrong.
    """
    from commands.embedded.home import Home
    from commands.embedded.settings import EmbeddedSettings

    if not any(name.upper() in os.environ for name in Connections.model_fields):
        running = Home(load(EmbeddedSettings).home).running()
        if running is not None:
            os.environ.update(running.env)
    return load(settings)
