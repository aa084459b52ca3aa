"""`python -m commands.dashboard.scoring`: `retail-stream score --json` in sessions of Postgres that can only read.

It takes ``DATABASE_URL``, and the role that ``DASHBOARD_ROLE`` names, if any.
"""

import os
import sys
from typing import Any

from sqlalchemy import Engine, event

from commands.cli import app
from commands.dashboard.score import ROLE


def _only_read(connection: Any, _: object) -> None:
    # The command makes its own engine: what every new session of this program begins with.
    with connection.cursor() as cursor:
        if role := os.environ.get(ROLE):
            cursor.execute("SELECT set_config('role', %s, false)", [role])
        cursor.execute("SET default_transaction_read_only = on")
    connection.commit()


if __name__ == "__main__":
    event.listen(Engine, "connect", _only_read)
    sys.argv[1:] = ["score", "--json"]
    app()
