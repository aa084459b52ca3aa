"""The command `retail-stream status`."""

import json
import time

from rich.console import Console

from commands.status import live
from commands.status import status as statuses
from commands.status.steady import Arrivals, Steady
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres


def status(connections: Connections, console: Console, every_s: float, *, redrawn: bool, as_json: bool) -> None:
    """Print it once, after two readings; or draw it again until Ctrl-C.

    Args:
        every_s: seconds between two readings.

    Raises:
        Unavailable: a server has not answered for 30 s.
    """
    engine = postgres.engine(connections.database_url)
    steady = Steady(Arrivals(connections))

    def look() -> tuple[statuses.Status, statuses.Status]:
        return wait_for(lambda: steady.next(statuses.look(engine, connections)), COMMAND_PATIENCE_S)

    before, _ = look()
    if redrawn:
        live.show(lambda: statuses.look(engine, connections), before, console, every_s, steady)
        return
    time.sleep(every_s)
    now, before = look()
    print(json.dumps(statuses.as_json(now, before))) if as_json else console.print(statuses.as_table(now, before))
