"""docs/aggregations.md as written, in a copy of the project: entries without code, filled, published and checked."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from commands.status import status
from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result, clean, raw, topic
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import connections_of, copied_database
from tests.integration.commands.conftest import five_seconds
from tests.integration.commands.verify.reports import run
from tests.integration.test_suppliers import Project, project
from tests.integration.test_tutorial import _MARK, _STUBS, blocks, told

__all__ = ["five_seconds", "project"]
#: So that windows fire, and become final, in the minute that the generator simulates.
SETTINGS = {
    "GENERATOR_SEED": "5",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "LATENCY_MAX_S": "15",
    "SALES_WINDOWS": "5s",
    "ALLOWED_LATENESS_S": "2",
}
#: As documented, and as a minute needs it. Sessions of this gap are published and then joined by late sales.
IN_THE_TEST = {'windows = "15m/5m"': 'windows = "15s/5s"', 'session = "30m"': 'session = "4s"'}
TABLES = ("sales_by_payment_window", "sales_by_visit_window", "sales_by_customer_window", "sales_by_brand_window")
MIDDLE = "2026-03-01T08:00:30Z"
#: One damage to each, to the declared key and to what was made; the last to a table that only the catalogue sees.
DAMAGES = """
    UPDATE sales_by_payment_window SET taxes = taxes + 0.01
    WHERE ctid = (SELECT ctid FROM sales_by_payment_window WHERE state = 'final' ORDER BY window_start DESC LIMIT 1);
    UPDATE sales_by_visit_window SET taxes = taxes + 0.01
    WHERE ctid = (SELECT ctid FROM sales_by_visit_window WHERE state = 'final' ORDER BY window_start DESC LIMIT 1);
    DELETE FROM window_revisions WHERE window_end = window_start;
    DROP INDEX sales_by_visit_window_end;
    DELETE FROM sales_by_customer_window
    WHERE ctid = (SELECT ctid FROM sales_by_customer_window WHERE state = 'final' ORDER BY window_start DESC LIMIT 1);
    CREATE OR REPLACE VIEW sales_by_brand_window AS
    SELECT w.window_size, w.window_start, w.window_end, 'one' COLLATE "C" AS brand,
           sum(w.transactions)::bigint AS transactions, sum(w.units_sold)::bigint AS units_sold,
           sum(w.units_returned)::bigint AS units_returned, sum(w.gross_sales) AS gross_sales,
           sum(w.returns_amount) AS returns_amount, sum(w.discounts) AS discounts, sum(w.taxes) AS taxes,
           sum(w.net_sales) AS net_sales
    FROM sales_by_product_window w GROUP BY 1, 2, 3;
    DROP INDEX sales_by_customer_window_open;
    COMMENT ON COLUMN sales_by_payment_window.payment_method IS 'odd';
    UPDATE pipeline.aggregations SET declaration = 'odd' WHERE relation = 'sales_by_customer_window'
"""


@pytest.mark.long
@pytest.mark.usefixtures("five_seconds")
def test_further_entries_are_filled_published_and_checked_as_documented(project: Project) -> None:
    (project.folder / ".venv" / "bin").mkdir(parents=True)
    (project.folder / ".venv" / "bin" / "activate").touch()
    script = "\n".join([_STUBS, *map(told, blocks("docs/aggregations.md"))])
    for own, in_the_test in IN_THE_TEST.items():
        assert own in script
        script = script.replace(own, in_the_test)
    env = {**os.environ, **project.env, **SETTINGS, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=project.folder, env=env, text=True, capture_output=True, timeout=300
    )
    logs = "".join(path.read_text()[-2000:] for path in project.folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
    said = done.stdout.rpartition(f"{_MARK}python - <<")[2]
    shown, _, report = said.partition("✓")
    assert "sales_by_customer_window" in shown
    for table in TABLES:
        assert f"✓ {table} " in f"✓{report}", report

    _killed_while_late_sales_join_sessions(project)
    sums = "SELECT sum(transactions), sum(gross_sales) FROM"
    by_store = project.query(f"{sums} sales_by_window")
    assert project.query(f"{sums} sales_by_customer_window") == by_store
    assert project.query(f"{sums} sales_by_brand_window") == by_store
    ((in_three_windows, _),) = project.query(f"{sums} sales_by_payment_window")
    assert in_three_windows > 2 * by_store[0][0]
    _results_are_published(project)
    _damages_are_named(project)
    _other_entries_are_refused_until_a_rebuild(project)


def _killed_while_late_sales_join_sessions(project: Project) -> None:
    # So that the watermark does not go on while the test waits.
    settings = {**SETTINGS, "IDLE_TIMEOUT_S": "3600"}
    for name in ("cleaner", "scd_merger", "aggregator"):
        project.start(name, **settings)
    connections = connections_of(project.stack)
    engine = postgres.engine(connections.database_url)

    def drain() -> None:
        eventually(
            lambda: status.look(engine, connections).drained,
            project.services.log,
            120,
            every_s=0.3,
            retry_on=Unavailable,
        )

    drain()
    ((customer,),) = project.query(
        "SELECT customer_id FROM customers_current c "
        "WHERE NOT EXISTS (SELECT FROM fact_sales f WHERE f.customer_id = c.customer_id) LIMIT 1"
    )
    newest = _newest_sales(connections)
    ((start,),) = project.query(
        "SELECT extract(epoch FROM greatest((SELECT max(event_time) FROM fact_sales), watermark))::bigint * 1000000 "
        "FROM pipeline.stream_watermark"
    )
    one, other = [start + 1_000_000, start + 6_000_000]
    #  gap 4 s: [1, 5) and [6, 10) are published at watermark 10.5, and the first is final at 11
    _sell(connections, newest, {min(newest): [one, other]}, customer)
    _sell(connections, newest, {p: [start + 20_500_000] for p in newest})
    visits = f"SELECT state FROM sales_by_visit_window WHERE customer_id = {customer}"
    eventually(lambda: project.query(visits) == [("fired",)] * 2, "both sessions are published", 60)
    _sell(connections, newest, {min(newest): [start + 5_000_000]}, customer)
    project.running["aggregator"].kill()
    project.start("aggregator", **settings)
    drain()
    engine.dispose()
    project.stop("cleaner", "scd_merger", "aggregator")
    assert project.query(visits) == [("fired",)]
    ((taken_back,),) = project.query("SELECT count(*) FROM window_revisions WHERE window_end = window_start")
    assert taken_back == 1
    for since in (None, MIDDLE):
        code, report = run(connections, since)
        assert code == 0, report


def _newest_sales(connections: Connections) -> dict[int, dict[str, Any]]:
    """The newest clean sale of each partition."""
    reader = RecordSchema(topic(clean(Entity.SALES)).schema())
    newest = {}
    for message in read_to_end(connections, clean(Entity.SALES)):
        sale = reader.record(message.value()[HEADER_BYTES:])
        assert sale is not None
        newest[message.partition()] = sale
    return newest


def _sell(
    connections: Connections,
    like: Mapping[int, dict[str, Any]],
    times: Mapping[int, Sequence[int]],
    customer: int | None = None,
) -> None:
    """Publish raw sales at these times of these partitions, like others there."""
    schema = topic(raw(Entity.SALES)).schema()
    number = Registry(connections.schema_registry_url).register(topic(raw(Entity.SALES)).subject, schema)
    producer = clients.producer(connections)
    for partition, some in times.items():
        for time in some:
            changed = {"transaction_id": time, "event_time": time}
            changed |= {} if customer is None else {"customer_id": customer}
            sale = {**like[partition], **changed}
            value = frame(number, encode(RecordSchema(schema).plain, sale))
            producer.produce(
                raw(Entity.SALES), value, str(sale["store_id"]).encode(), partition, timestamp=time // 1000
            )
    assert producer.flush(30) == 0


def _results_are_published(project: Project) -> None:
    """Every result of payments and customers is on `sales.windows`, with its kind, key and sums."""
    connections = connections_of(project.stack)
    versions = Registry(connections.schema_registry_url).versions(topic(Result.WINDOWS).subject)
    readers = {number: RecordSchema(schema) for number, schema in versions.values()}
    ((mine,),) = project.query("SELECT id::text FROM pipeline.warehouse_id")
    found = set()
    for message in read_to_end(connections, Result.WINDOWS):
        value = message.value()
        record = readers[int.from_bytes(value[1:HEADER_BYTES], "big")].record(value[HEADER_BYTES:])
        assert record is not None
        if not (headers_by_name(message)["outbox.id"] or b"").startswith(mine.encode()):
            continue
        if record["kind"] in ("store", "product"):
            assert "payment_method" not in record, "the schema that it always had"
            continue
        key = record["payment_method"] if record["kind"] == "payment" else record["customer_id"]
        assert message.key() == str(key).encode()
        assert (record["taxes"] is None) == (record["kind"] == "customer"), "what is not measured is null"
        found.add((record["kind"], str(key), record["window_start"], record["transactions"], record["state"]))
    start = "(extract(epoch FROM window_start) * 1000000)::bigint, transactions, state"
    wanted = project.query(f"""
        SELECT 'payment', payment_method, {start} FROM sales_by_payment_window WHERE state <> 'open'
        UNION ALL SELECT 'customer', customer_id::text, {start} FROM sales_by_customer_window WHERE state <> 'open'
    """)
    assert wanted
    assert set(wanted) <= found


def _damages_are_named(project: Project) -> None:
    with copied_database(connections_of(project.stack)) as copy:
        with psycopg.connect(copy.database_url) as connection:
            connection.execute(DAMAGES)
        code, report = run(copy)
        assert code == 1
        red = {line.split("  ")[0].removeprefix("✗ ") for line in report.splitlines() if line.startswith("✗")}
        assert red == {*TABLES, "sales.windows", "window_revisions", "tables as declared", "aggregations"}, report
        for words in (
            "taxes expected",
            "customer_id ",
            "brand 'one'",
            "payment_window.payment_method'",
            "window_open'",
            "window_end'",
        ):
            assert words in report, report
        code, report = run(copy, SETTINGS["GENERATOR_START_TIME"])
        assert code == 1
        assert "✗ sales_by_customer_window" in report


def _other_entries_are_refused_until_a_rebuild(project: Project) -> None:
    declared = project.folder / "schemas" / "windows.toml"
    written = declared.read_text()
    declared.write_text(written.replace('"payment_method"', '"unit_price"'))
    for refused in (project.try_command("init"), _rebuild(project)):
        assert (refused.returncode, refused.stdout.count("\n")) == (2, 1), refused.stdout
        assert "entry payment: by='unit_price' is not a column" in refused.stdout
    declared.write_text(written.replace('"transactions", "gross_sales"', '"transactions"'))
    refused = project.try_command("init")
    assert refused.returncode == 2
    assert "entry of sales_by_customer_window has changed, and the table holds windows" in refused.stdout
    project.start("aggregator")
    assert project.running.pop("aggregator").wait(60) == 2
    log = project.services.log()
    assert "customer by customer_id measures transactions': the warehouse was computed with '" in log, log
    declared.write_text(written.partition("[payment]")[0])
    project.command("init")
    assert project.query("SELECT to_regclass('sales_by_brand_window')") == [(None,)], "a view holds nothing"
    _rebuild(project).check_returncode()
    relations = project.query("SELECT relname FROM pg_class WHERE relname LIKE 'sales_by_%_window' ORDER BY 1")
    assert relations == [("sales_by_category_window",), ("sales_by_product_window",)]


def _rebuild(project: Project) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "commands.cli", "rebuild", "--yes"]
    env = {**os.environ, **project.env}
    return subprocess.run(
        command, cwd=project.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
