"""`retail-stream status` in a terminal: one table, redrawn in place until Ctrl-C."""

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from commands.status.status import Status, as_table
from commands.status.steady import Steady
from retail_stream.errors import Unavailable
from retail_stream.waiting import COMMAND_PATIENCE_S

#: The largest share of the time that is spent reading: counting large tables costs the server time.
READING_SHARE = 0.1


def show(
    look: Callable[[], Status],
    before: Status,
    console: Console,
    every_s: float,
    steady: Steady,
    sleep: Callable[[float], None] = time.sleep,
    patience_s: float = COMMAND_PATIENCE_S,
) -> None:
    """Show a status every ``every_s`` seconds until Ctrl-C. ``steady`` has seen ``before``.

    A server that does not answer is named under the last table.

    Raises:
        Unavailable: a server did not answer for ``patience_s`` seconds.
    """
    away_since: float | None = None
    with suppress(KeyboardInterrupt), Live(as_table(before), console=console, auto_refresh=False) as live:
        shown, since = before, before
        while True:
            began = time.monotonic()
            try:
                shown, since = steady.next(look())
            except Unavailable as e:
                away_since = away_since or began
                if time.monotonic() - away_since >= patience_s:
                    raise
                live.update(Group(as_table(shown, since), Text(f"{e} Waiting for it.", style="red")), refresh=True)
            else:
                away_since = None
                live.update(as_table(shown, since), refresh=True)
            looked_s = time.monotonic() - began
            sleep(max(every_s, looked_s * (1 / READING_SHARE - 1)))
