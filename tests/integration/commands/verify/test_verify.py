"""`verify` over a real run of the four services: green, and then one thing changed at a time.

It needs topics of its own, because other tests write to the clean topics what no raw record stands behind.
"""

import io
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from rich.console import Console
from sqlalchemy import Engine, text

from commands.verify.run import verify
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.drain import ran_to_the_end
from tests.harness.servers import Servers, connections_of, odd_defaults

SETTINGS = {
    "GENERATOR_SEED": "7",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "1500",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "GENERATOR_FAULT_CORRUPT_BYTES": "0.01",
    "LATENCY_MAX_S": "600",
    "SALES_WINDOWS": "1m,3m/1m",
    "ALLOWED_LATENESS_S": "5",
}


@pytest.fixture(scope="module")
def done(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Connections:
    """Servers on which the services have run to the end of a bounded stream; only the servers still run."""
    odd_defaults(connections_of(empty_stack))
    return ran_to_the_end(empty_stack, SETTINGS, tmp_path_factory.mktemp("logs"))


@pytest.fixture
def warehouse(done: Connections) -> Iterator[Engine]:
    engine = postgres.engine(done.database_url)
    yield engine
    engine.dispose()


def run(connections: Connections) -> tuple[int, str]:
    """Exit code and output."""
    console = Console(file=io.StringIO(), width=400)
    code = verify(connections, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_finished_run_is_all_green_and_has_something_of_everything(done, warehouse):
    code, output = run(done)
    assert code == 0, output
    assert "✗" not in output
    with warehouse.connect() as connection:
        states = set(connection.execute(text("SELECT DISTINCT state FROM sales_by_window")).scalars())
    assert "final" in states
    for line in ("sales.dlq", "customers.dlq", "sales.late", "late_sales", "sales.windows", "dim_stores", "fact_sales"):
        figures = next(row for row in output.splitlines() if f" {line} " in row)
        assert "found           0" not in figures, figures


DAMAGES = {
    "a cent in a window": (
        "UPDATE sales_by_window SET gross_sales = gross_sales + 0.01"
        " WHERE ctid = (SELECT min(ctid) FROM sales_by_window)",
        ["✗ sales_by_window", "gross_sales expected"],
    ),
    "a version less": (
        "DELETE FROM dim_customers WHERE customer_sk = (SELECT max(customer_sk) FROM dim_customers)",
        ["✗ dim_customers", "customer_id", "missing"],
    ),
    "a fact less": (
        "DELETE FROM fact_sales WHERE transaction_id = (SELECT max(transaction_id) FROM fact_sales)",
        ["✗ fact_sales", "transaction_id", "missing"],
    ),
    "when a fact was published": (
        "UPDATE fact_sales SET published_at = published_at + interval '1 millisecond'"
        " WHERE transaction_id = (SELECT max(transaction_id) FROM fact_sales)",
        ["✗ fact_sales", "published_at expected"],
    ),
    "the record of a fact": (
        "UPDATE fact_sales SET source_offset = source_offset + 1"
        " WHERE transaction_id = (SELECT max(transaction_id) FROM fact_sales)",
        ["✗ fact_sales", "source_offset expected"],
    ),
    "a window that a sale missed": (
        "UPDATE late_sales SET late_by[1] = late_by[1] + interval '1 microsecond'"
        " WHERE ctid = (SELECT min(ctid) FROM late_sales)",
        ["✗ late_sales", "late_by expected"],
    ),
    "a window that fired again": (
        "UPDATE sales_by_product_window SET revision = revision + 1"
        " WHERE ctid = (SELECT min(ctid) FROM sales_by_product_window WHERE state = 'final')",
        ["✗ sales.windows", "kind 'product'", "missing"],
    ),
    "a watermark": (
        "UPDATE partition_watermarks SET watermark = watermark + interval '1 second' WHERE partition = 0",
        ["✗ partition_watermarks", "partition 0: watermark expected"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_thing_changed_in_the_warehouse_is_named(done, warehouse, damage):
    statement, words = DAMAGES[damage]
    with warehouse.begin() as connection:
        tables = "sales_by_window dim_customers fact_sales late_sales sales_by_product_window partition_watermarks"
        table = next(t for t in tables.split() if f" {t} " in statement)
        connection.execute(text(f"CREATE TABLE undamaged AS SELECT * FROM {table}"))
        columns = ", ".join(_writable(connection, table))
        assert connection.execute(text(statement)).rowcount == 1
    try:
        code, output = run(done)
    finally:
        with warehouse.begin() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
            overriding = "OVERRIDING SYSTEM VALUE" if table.startswith("dim_") else ""
            connection.execute(text(f"INSERT INTO {table} ({columns}) {overriding} SELECT {columns} FROM undamaged"))
            connection.execute(text("DROP TABLE undamaged"))
    assert code == 1
    assert all(w in output for w in words), output


def _writable(connection, table: str) -> list[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = :t AND is_generated = 'NEVER'"
    return list(connection.execute(text(query), {"t": table}).scalars())


# These two come last: what is deleted from a topic stays deleted.
@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("sales.dlq", ["✗ sales.dlq", "and is missing in sales.dlq"]),
        ("sales.late", ["✗ sales.late", "source_offset"]),
    ],
)
def test_one_record_dropped_from_a_topic_is_named(done, topic, words):
    client = clients.admin(done)
    ends = end_offsets(done, topic_partitions(done, topic))
    partition = next(p for (_, p), end in ends.items() if end > 0)
    for future in client.delete_records([TopicPartition(topic, partition, 1)]).values():
        future.result()
    code, output = run(done)
    assert code == 1
    assert all(w in output for w in words), output
