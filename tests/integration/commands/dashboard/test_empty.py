"""The page's process on a warehouse in which nothing was ever stored, beside services that were never started."""

import os
import subprocess
import sys

from sqlalchemy import Engine

from commands.embedded.settings import free_ports
from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.system.browser import get, wait_until_served


def test_without_any_data_it_says_so_and_ends_with_0(warehouse: Engine, connections: Connections) -> None:
    port, closed = free_ports(2)
    servers = {name.upper(): str(value) for name, value in connections.model_dump().items() if value is not None}
    services = ",".join(f"{name}=127.0.0.1:{closed}" for name in ("generator", "cleaner", "scd_merger", "aggregator"))
    env = {**os.environ, **servers, "DASHBOARD_PORT": str(port), "DASHBOARD_SERVICES": services}
    process = subprocess.Popen([sys.executable, "-m", "commands.dashboard"], env=env)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_served(url)

        def read() -> bool:
            now = get(f"{url}/api/look")[1]
            return {"services", "windows", "stream", "flow", "verdict"} <= set(now) and not now["problems"]

        eventually(read, lambda: f"every part is read: {get(f'{url}/api/look')}", retry_on=OSError)
        _, now = get(f"{url}/api/look")
        assert [s["state"] for s in now["services"]] == ["down"] * 4
        assert (now["windows"], now["stream"]["watermark"]) == ([], None)
        assert now["verdict"]["level"] == "bad"
        assert now["verdict"]["findings"][0]["why"] == f"127.0.0.1:{closed} does not answer (Connection refused)."
        assert get(f"{url}/api/windows?size=1m")[0] == 404
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
