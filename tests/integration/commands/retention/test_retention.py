"""Old months, windows, dead letters, a customer and old records are deleted; `verify` stays green. One story.

The run is of March 2026 and takes a minute of simulated time, so the five minutes that records may be ahead are five
seconds here. What is deleted in a test stays deleted in the next ones.
"""

import re

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from commands import cli
from commands.dlq import load as dead_letters
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, first_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.drain import ran_to_the_end
from tests.harness.servers import Servers, connections_of, copied_database
from tests.harness.services import servers_of
from tests.integration.commands.verify.reports import run as verified

pytestmark = pytest.mark.usefixtures("five_seconds")
SETTINGS = {
    "GENERATOR_SEED": "5",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "2000",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "GENERATOR_FAULT_CORRUPT_BYTES": "0.02",
    "SALES_WINDOWS": "5s",
    "ALLOWED_LATENESS_S": "2",
    # So that the newest windows stay open.
    "IDLE_TIMEOUT_S": "600",
}
STRANGER = 2_000_000_000
MIDDLE_MS = 1_772_352_020_000  # 08:00:20


@pytest.fixture(scope="module")
def done(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Connections:
    """Servers on which the services have run to the end of a bounded stream; only the servers still run."""
    connections = connections_of(empty_stack)
    producer = clients.producer(connections)
    # A bad record of a customer that the generator never has, and with a timestamp that is not a date.
    producer.produce(topics.raw(Entity.CUSTOMERS), b"no record", str(STRANGER).encode(), timestamp=-(2**62))
    assert producer.flush(30) == 0
    ran_to_the_end(empty_stack, SETTINGS, tmp_path_factory.mktemp("logs"))
    assert dead_letters.load(connections) > 0
    return connections


@pytest.fixture
def warehouse(done: Connections) -> Engine:
    return postgres.engine(done.database_url)


def command(connections: Connections, *args: str, **env: str) -> str:
    result = CliRunner().invoke(cli.app, list(args), env={**servers_of(connections), **env})
    assert result.exit_code == 0, result.output
    return result.output


def one(warehouse: Engine, query: str) -> tuple[object, ...]:
    with warehouse.connect() as connection:
        row = tuple(connection.execute(text(query)).one())
    # A database that has sessions is not copied.
    warehouse.dispose()
    return row


def delete_records(connections: Connections, before: dict[tuple[str, int], int]) -> None:
    """As retention does: the logs begin at these offsets then."""
    asked = [TopicPartition(*place, offset) for place, offset in before.items()]
    client = clients.admin(connections)
    for future in client.delete_records(asked).values():
        future.result(30)


def test_without_settings_everything_is_kept(done):
    assert "Everything is kept" in command(done, "retention", "--apply")


def test_nothing_is_changed_without_apply(done, warehouse):
    output = command(done, "retention", RETENTION_FACTS_MONTHS="1", RETENTION_WINDOWS_DAYS="1")
    assert "would be detached: fact_sales_2026_03" in output
    assert "Nothing was changed" in output
    assert one(warehouse, "SELECT count(*) > 0 FROM fact_sales") == (True,)


def test_months_are_detached_and_their_facts_are_no_difference(done, warehouse):
    output = command(done, "retention", "--apply", RETENTION_FACTS_MONTHS="1")
    assert "detached: fact_sales_2026_03" in output
    assert one(
        warehouse, "SELECT (SELECT count(*) FROM fact_sales), (SELECT count(*) > 0 FROM fact_sales_2026_03)"
    ) == (
        0,
        True,
    )
    code, output = verified(done)
    assert code == 0, output
    # That of April was made ahead.
    assert "without 2 that are detached" in output


def test_final_windows_are_deleted_by_age_and_the_others_kept(done, warehouse):
    before = one(warehouse, "SELECT count(*) FILTER (WHERE state <> 'final'), count(*) FROM sales_by_window")
    command(done, "retention", "--apply", RETENTION_WINDOWS_DAYS="1")
    after = one(warehouse, "SELECT count(*) FILTER (WHERE state <> 'final'), count(*) FROM sales_by_window")
    assert after[0] == before[0] != 0
    assert after[1] < before[1]  # type: ignore[operator]
    code, output = verified(done)
    assert code == 0, output
    with copied_database(done) as copy:
        engine = postgres.engine(copy.database_url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE sales_by_window SET units_sold = units_sold + 1"))
        engine.dispose()
        assert verified(copy)[0] == 1


def test_a_customer_is_forgotten(done, warehouse):
    query = "SELECT customer_id FROM dim_customers GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    (number,) = one(warehouse, query)
    output = command(done, "forget", "customer", str(number), "--yes")
    assert "and published a delete" in output
    left = f"""
        SELECT (SELECT count(*) FROM dim_customers WHERE customer_id = {number}),
               (SELECT count(*) FROM customers_changes WHERE customer_id = {number}),
               (SELECT count(*) > 0 FROM fact_sales_2026_03 WHERE customer_id = {number})
    """
    assert one(warehouse, left) == (0, 0, True)
    code, output = verified(done)
    assert code == 0, output


def test_a_letter_without_a_date_is_forgotten_too(done, warehouse):
    letters = f"SELECT count(*) FROM dead_letters WHERE key = '{STRANGER}' AND published_at IS NULL"
    assert one(warehouse, letters) == (1,)
    command(done, "forget", "customer", str(STRANGER), "--yes")
    assert one(warehouse, letters) == (0,)
    code, output = verified(done)
    assert code == 0, output


def test_a_score_misses_nothing_of_what_was_deleted_on_purpose(done):
    assert "faults handled" in command(done, "score")


def test_dead_letters_go_with_their_rows_and_the_others_are_still_compared(done, warehouse):
    rows = "SELECT count(*) FROM dead_letters"
    (all_rows,) = one(warehouse, rows)
    assert "would be deleted" in command(done, "retention", RETENTION_DEAD_LETTERS_DAYS="1")
    output = command(done, "retention", "--apply", RETENTION_DEAD_LETTERS_DAYS="1")
    assert "sales.dlq         retention.ms=86400000" in output
    assert "dead_letters      0 rows deleted" in output
    # What the broker may do itself from now on: the letters are of March.
    letters = topic_partitions(done, topics.dlq(Entity.SALES))
    ends = end_offsets(done, letters)
    delete_records(done, {place: end // 2 for place, end in ends.items()})
    code, output = verified(done)
    assert code == 0, output
    assert "raw records before the first letter that is left are in neither topic" in output
    delete_records(done, ends)
    code, output = verified(done)
    assert code == 0, output
    (sales,) = one(warehouse, "SELECT count(*) FROM dead_letters WHERE entity = 'sales'")
    output = command(done, "retention", "--apply", RETENTION_DEAD_LETTERS_DAYS="1")
    assert f"dead_letters      {sales:,} rows deleted" in output
    assert one(warehouse, rows) == (all_rows - sales,)  # type: ignore[operator]
    assert dead_letters.load(done) == 0
    code, output = verified(done)
    assert code == 0, output


def test_after_old_records_went_verify_compares_what_is_left_and_says_since_when(done):
    names = [f(e) for e in Entity for f in (topics.raw, topics.clean)]
    places = topic_partitions(done, *names)
    ends, middle = end_offsets(done, places), first_offsets(done, places, MIDDLE_MS)
    delete_records(done, {p: offset for p, offset in middle.items() if 0 < offset < ends[p]})
    result = CliRunner().invoke(cli.app, ["score"], env=servers_of(done))
    assert result.exit_code == 2
    assert re.search(r"Kafka has deleted the records of \S+ before offset \d+; a score needs all", result.output)
    code, output = verified(done)
    assert code == 0, output
    assert "published since 2026-03-01T08:00:2" in output
    assert "Kafka has deleted older records" in output
    with copied_database(done) as copy:
        engine = postgres.engine(copy.database_url)
        with engine.begin() as connection:
            newest = "SELECT product_sk FROM dim_products ORDER BY valid_from DESC LIMIT 1"
            connection.execute(text(f"UPDATE dim_products SET price = price + 1 WHERE product_sk = ({newest})"))
        engine.dispose()
        code, output = verified(copy)
    assert code == 1, output
    assert "price expected" in output
