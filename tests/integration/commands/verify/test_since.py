"""`verify --since` over a finished run: green at every cut, and red where something newer than the cut was changed.

The run takes a minute of simulated time, so the five minutes that records may be ahead are five seconds here. The
generator's good records are never ahead::

    08:00:00     08:00:20                 08:00:25                                   08:01:00
    ├────────────┼ the cut of the damages ┼ versions and windows from here on ───────┤
"""

from collections.abc import Iterator

import pytest
from confluent_kafka import Message
from sqlalchemy import text

from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.drain import ran_to_the_end
from tests.harness.servers import Servers, connections_of, copied_database
from tests.integration.commands.verify.reports import run

pytestmark = pytest.mark.usefixtures("five_seconds")
#: 08:01:00.
END_MS = 1_772_352_060_000
CUT = "2026-03-01T08:00:20Z"
SETTINGS = {
    "GENERATOR_SEED": "5",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "3000",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "GENERATOR_FAULT_CORRUPT_BYTES": "0.02",
    "GENERATOR_FAULT_DUPLICATE": "0.05",
    "LATENCY_MAX_S": "15",
    "SALES_WINDOWS": "5s,15s/5s",
    "ALLOWED_LATENESS_S": "2",
}


@pytest.fixture(scope="module")
def done(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Connections:
    """Servers on which the services have run to the end of a bounded stream; only the servers still run.

    Each partition of `sales.raw` begins with an aborted sale from its end, as where a transaction was sent again.
    """
    sales = clients.producer(connections_of(empty_stack), **{"transactional.id": "failed"})
    sales.init_transactions(30)
    sales.begin_transaction()
    for partition in range(4):
        sales.produce("sales.raw", b"aborted", partition=partition, timestamp=END_MS)
    sales.flush(30)
    sales.abort_transaction(30)
    return ran_to_the_end(empty_stack, SETTINGS, tmp_path_factory.mktemp("logs"))


def found(output: str, line: str) -> int:
    """How many of them a line of the report has found."""
    figures = next(row for row in output.splitlines() if f" {line} " in row)
    return int(figures.partition("found")[2].split()[0].replace(",", ""))


@pytest.mark.parametrize(
    "time",
    ["2026-03-01T07:00:00Z", "2026-03-01T08:00:01", CUT, "2026-03-01T09:00:31.417+01:00", "2026-03-01T08:00:38.5Z"],
)
def test_a_good_pipeline_is_green_wherever_it_is_cut(done, time):
    code, output = run(done, time)
    assert code == 0, output
    lines = ("sales.clean", "sales.dlq", "customers.clean", "fact_sales", "dim_products", "sales_by_window")
    assert all(found(output, line) for line in (*lines, "sales.windows")), output


def test_a_later_cut_looks_at_less(done):
    early, late = (run(done, time)[1] for time in (CUT, "2026-03-01T08:00:35Z"))
    for line in ("sales.clean", "fact_sales", "dim_products", "sales_by_window", "sales_by_product_window"):
        assert 0 < found(late, line) < found(early, line)


def test_a_time_after_the_last_record_compares_nothing_and_says_so(done):
    code, output = run(done, "1s")
    assert code == 0, output
    assert "nothing was published since then" in output


#: What is changed in the warehouse → (statements, the lines that name it, words of their examples).
DAMAGES = {
    "a fact of which all records are behind the cut": (
        "UPDATE fact_sales SET quantity = quantity + 1 WHERE event_time = (SELECT max(event_time) FROM fact_sales)",
        "fact_sales",
        "quantity expected",
    ),
    "a fact that might have had a record before the cut": (
        "UPDATE fact_sales SET total_amount = total_amount + 1 WHERE transaction_id = (SELECT max(transaction_id)"
        " FROM fact_sales WHERE event_time BETWEEN '2026-03-01 08:00:21Z' AND '2026-03-01 08:00:23Z')",
        "fact_sales",
        "total_amount expected",
    ),
    "a fact less": (
        "DELETE FROM fact_sales WHERE transaction_id = (SELECT max(transaction_id)"
        " FROM fact_sales WHERE event_time BETWEEN '2026-03-01 08:00:21Z' AND '2026-03-01 08:00:23Z')",
        "fact_sales",
        "missing",
    ),
    "a fact more": (
        "INSERT INTO fact_sales (transaction_id, store_id, event_time, customer_id, product_id, quantity, unit_price,"
        " total_amount, payment_method, discount_applied, tax_amount)"
        " SELECT -1, store_id, event_time, customer_id, product_id, quantity, unit_price, total_amount, payment_method,"
        " discount_applied, tax_amount FROM fact_sales ORDER BY event_time DESC LIMIT 1",
        "fact_sales",
        "should not be there",
    ),
    "a version": (
        "UPDATE dim_products SET price = price + 1 WHERE product_sk ="
        " (SELECT product_sk FROM dim_products ORDER BY valid_from DESC LIMIT 1)",
        "dim_products",
        "price expected",
    ),
    "a version less": (
        "DELETE FROM dim_stores WHERE store_sk = (SELECT store_sk FROM dim_stores ORDER BY valid_from DESC LIMIT 1)",
        "dim_stores",
        "missing",
    ),
    "a window": (
        "UPDATE sales_by_window SET gross_sales = gross_sales + 1"
        " WHERE ctid = (SELECT ctid FROM sales_by_window ORDER BY window_start DESC LIMIT 1)",
        "sales_by_window",
        "gross_sales expected",
    ),
    "a revision that was not published": (
        "UPDATE sales_by_window SET revision = revision + 1"
        " WHERE ctid = (SELECT ctid FROM sales_by_window WHERE state <> 'open' ORDER BY window_start DESC LIMIT 1)",
        "sales.windows",
        "missing",
    ),
    "a window that is final": (
        "UPDATE sales_by_product_window SET units_sold = units_sold + 1 WHERE ctid = (SELECT ctid"
        " FROM sales_by_product_window WHERE state = 'final' AND window_start >= '2026-03-01 08:00:25Z' LIMIT 1)",
        "sales_by_product_window sales.windows",
        "units_sold expected",
    ),
}
OLDER = [
    # The first sale; some of the next ones are published again behind the cut.
    "UPDATE fact_sales SET quantity = quantity + 1 WHERE transaction_id = (SELECT min(transaction_id) FROM fact_sales)",
    "UPDATE dim_products SET price = price + 1 WHERE valid_from < '2026-03-01 08:00:15Z'",
    "UPDATE sales_by_window SET gross_sales = gross_sales + 1 WHERE window_end < '2026-03-01 08:00:20Z'",
]


def damaged(connections: Connections, statement: str) -> int:
    """Execute a statement; returns how many rows it has changed."""
    engine = postgres.engine(connections.database_url)
    with engine.begin() as connection:
        rows = connection.execute(text(statement)).rowcount
    engine.dispose()
    return rows


@pytest.fixture
def copy(done: Connections) -> Iterator[Connections]:
    with copied_database(done) as mine:
        yield mine


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_changed_behind_the_cut_is_named_and_only_it(copy, damage):
    statement, line, words = DAMAGES[damage]
    assert damaged(copy, statement) == 1
    code, output = run(copy, CUT)
    assert code == 1
    assert [row.split()[1] for row in output.splitlines() if row.startswith("✗")] == line.split(), output
    assert words in output


@pytest.mark.parametrize("statement", OLDER)
def test_what_was_changed_before_the_cut_is_not_looked_at(copy, statement):
    assert damaged(copy, statement) > 0
    code, output = run(copy, CUT)
    assert code == 0, output


def test_a_sale_with_an_unknown_id_is_only_reported_unless_the_ledger_has_it(copy):
    query = "SELECT customer_id FROM fact_sales ORDER BY event_time DESC LIMIT 1"
    gone = f"DELETE FROM customers_changes WHERE customer_id = ({query})"
    assert damaged(copy, gone) > 0
    # All changes of this customer may be older than the cut, or not; then its versions are named, too.
    _, output = run(copy, "2026-03-01T08:00:40Z")
    line = next(row for row in output.splitlines() if "sales with ids in no dimension" in row)
    assert "customer_id" in output
    assert "that the ledger does not have, such as transaction_id" in line


# These come last: what is written to a topic stays there.
def _newest(connections: Connections, topic: str, *, before: int | None = None) -> Message:
    messages = [m for m in read_to_end(connections, topic) if before is None or m.timestamp()[1] < before]
    return max(messages, key=lambda m: m.timestamp()[1])


def _publish(connections: Connections, m: Message, value: bytes, **headers: bytes) -> None:
    producer = clients.producer(connections)
    named = {**headers_by_name(m), **headers}
    producer.produce(m.topic(), value, m.key(), m.partition(), timestamp=m.timestamp()[1], headers=[*named.items()])
    assert producer.flush(30) == 0


#: 08:00:05.
EARLY_MS = 1_772_352_005_000


def test_a_clean_record_and_a_dead_letter_from_before_the_cut_are_not_looked_at(done):
    clean = _newest(done, "customers.clean", before=EARLY_MS)
    _publish(done, clean, clean.value()[:-1] + b"!")
    letter = _newest(done, "sales.dlq", before=EARLY_MS)
    _publish(done, letter, letter.value() + b"!")
    code, output = run(done, CUT)
    assert code == 0, output


@pytest.mark.parametrize(
    ("topic", "headers", "words"),
    [
        ("customers.clean", {}, "expected"),
        ("sales.dlq", {}, "body expected"),
        ("sales.clean", {SOURCE_OFFSET: (10**9).to_bytes(8, "big")}, "has no raw record"),
    ],
)
def test_a_wrong_record_behind_the_cut_is_named(done, topic, headers, words):
    newest = _newest(done, topic)
    _publish(done, newest, newest.value()[:-1] + b"!", **headers)
    code, output = run(done, CUT)
    assert code == 1
    assert f"✗ {topic}" in output
    assert words in output, output
