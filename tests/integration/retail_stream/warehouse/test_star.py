"""The picture of docs/warehouse.md is that of the tables as they are."""

import re
import subprocess
import sys

from sqlalchemy import Engine, text

from retail_stream.settings import Connections
from tests.harness.services import ROOT


def picture(connections: Connections) -> str:
    return subprocess.run(
        [sys.executable, "docs/star.py"],
        cwd=ROOT,
        env={"DATABASE_URL": connections.database_url, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_the_picture_is_current(connections: Connections, warehouse: Engine) -> None:
    """If a migration changed a table: DATABASE_URL=… python docs/star.py, and put it into the document."""
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs" / "warehouse.md").read_text(), re.S)
    assert drawn == picture(connections)
    with warehouse.begin() as connection:
        connection.execute(text("ALTER TABLE dim_stores ADD COLUMN floor_space integer"))
    assert "integer floor_space" in picture(connections)
