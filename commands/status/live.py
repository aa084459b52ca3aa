"""`retail-stream status` in a terminal: one table, drawn anew in place until Ctrl-C."""

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from commands.status.status import Status, as_table
from retail_stream.errors import Unavailable
from retail_stream.waiting import COMMAND_PATIENCE_S

#: Counting large tables costs the server something: of the time, at most this share is spent looking.
MOST_LOOKING = 0.1


def watch(
    look: Callable[[], Status],
    before: Status,
    console: Console,
    every_s: float,
    sleep: Callable[[float], None] = time.sleep,
    patience_s: float = COMMAND_PATIENCE_S,
) -> None:
    """Look again and again, from ``before`` on, until Ctrl-C.

    A server that is away is named under the last table.

    Raises:
        Unavailable: it was away for ``patience_s`` seconds.
    """
    away_since: float | None = None
    with suppress(KeyboardInterrupt), Live(as_table(before), console=console, auto_refresh=False) as live:
        shown = before
        while True:
            began = time.monotonic()
            try:
                now = look()
            except Unavailable as e:
                away_since = away_since or began
                if time.monotonic() - away_since >= patience_s:
                    raise
                live.update(Group(as_table(shown), Text(f"{e} Waiting for it.", style="red")), refresh=True)
            else:
                away_since = None
                live.update(as_table(now, shown), refresh=True)
                shown = now
            looked_s = time.monotonic() - began
            sleep(max(every_s, looked_s * (1 / MOST_LOOKING - 1)))
