"""What the tests of `rebuild` do to topics, and how they look at what came of it."""

from typing import Any

import httpx2 as httpx
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from commands import cli
from commands.demo.pipeline import Pipeline, Service
from commands.init import initialise
from commands.verify.run import run as verify
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from tests.harness.endpoint import Endpoint
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, init_settings_of
from tests.harness.services import servers_of

CONTENTS = {
    "facts": "SELECT count(*), sum(total_amount), count(DISTINCT transaction_id) FROM fact_sales",
    "versions": "SELECT count(*), sum(price), count(valid_to) FROM dim_products",
    "windows": "SELECT window_size, window_start, sum(net_sales) FROM sales_by_window GROUP BY 1, 2 ORDER BY 1, 2",
}


def contents(warehouse: Engine) -> dict[str, list[tuple[object, ...]]]:
    with warehouse.connect() as connection:
        return {name: [tuple(r) for r in connection.execute(text(query))] for name, query in CONTENTS.items()}


def warehouse_id(warehouse: Engine) -> str:
    with warehouse.connect() as connection:
        return str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())


def command(connections: Connections, *args: str, **env: str) -> Result:
    return CliRunner().invoke(cli.app, ["rebuild", *args], env={**servers_of(connections), **env})


def red(connections: Connections) -> dict[str, str]:
    """The lines of `verify` that do not pass, with their examples."""
    return {check.name: "; ".join(check.examples) for check in verify(connections).failed}


def made_again(stack: Servers, connections: Connections, *names: str) -> None:
    """Delete topics and make them again, as an operator does."""
    admin = clients.admin(connections)
    for deleted in admin.delete_topics([*names]).values():
        deleted.result(30)
    eventually(lambda: not {*names} & {*admin.list_topics(timeout=10).topics}, "they are gone")
    initialise(init_settings_of(stack))


def waits_for_a_rebuild(pipeline: Pipeline, service: Service, topic: str) -> None:
    why = f"{topic} was deleted and made again after the warehouse was filled from it"
    eventually(lambda: why in pipeline.log(service).read_text(), lambda: pipeline.log(service).read_text()[-3000:])
    assert "rebuild --from-raw" in pipeline.log(service).read_text()
    ready = Endpoint(pipeline.metrics_ports[service])
    status, conditions = ready.ask("/readyz")
    assert status == 503
    assert "topics" in conditions


def schema_ids(connections: Connections) -> dict[str, dict[int, int]]:
    """Subject → version → schema id."""
    with httpx.Client(base_url=connections.schema_registry_url, trust_env=False, timeout=30) as registry:

        def answer(path: str) -> Any:
            return registry.get(path).raise_for_status().json()

        return {
            subject: {
                v: answer(f"/subjects/{subject}/versions/{v}")["id"] for v in answer(f"/subjects/{subject}/versions")
            }
            for subject in answer("/subjects")
        }
