"""docs/aggregations.md as written, in a copy of the project: entries without code, filled, published and checked."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Result, topic
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
OWN, IN_THE_TEST = 'windows = "15m/5m"', 'windows = "15s/5s"'
TABLES = ("sales_by_payment_window", "sales_by_customer_window", "sales_by_brand_window")
#: One damage to each, to the declared key and to what was made; the last to a table that only the catalogue sees.
DAMAGES = """
    UPDATE sales_by_payment_window SET taxes = taxes + 0.01
    WHERE ctid = (SELECT ctid FROM sales_by_payment_window WHERE state = 'final' ORDER BY window_start DESC LIMIT 1);
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
    assert OWN in script
    script = script.replace(OWN, IN_THE_TEST)
    env = {**os.environ, **project.env, **SETTINGS, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=project.folder, env=env, text=True, capture_output=True, timeout=300
    )
    logs = "".join(path.read_text()[-2000:] for path in project.folder.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
    said = done.stdout.rpartition(f"{_MARK}python - <<")[2]
    status, _, report = said.partition("✓")
    assert "sales_by_customer_window" in status
    for table in TABLES:
        assert f"✓ {table} " in f"✓{report}", report

    sums = "SELECT sum(transactions), sum(gross_sales) FROM"
    by_store = project.query(f"{sums} sales_by_window")
    assert project.query(f"{sums} sales_by_customer_window") == by_store
    assert project.query(f"{sums} sales_by_brand_window") == by_store
    ((in_three_windows, _),) = project.query(f"{sums} sales_by_payment_window")
    assert in_three_windows > 2 * by_store[0][0]
    _results_are_published(project)
    _damages_are_named(project)
    _other_entries_are_refused_until_a_rebuild(project)


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
        assert red == {*TABLES, "sales.windows", "tables as declared", "aggregations"}, report
        for words in (
            "taxes expected",
            "customer_id ",
            "brand 'one'",
            "payment_window.payment_method'",
            "window_open'",
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
