"""`dlq load` beside others and on topics that were made anew; the letters are written by hand."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from commands.dlq.load import load
from commands.init import initialise
from commands.retention.forget import forget
from commands.verify.run import run as verify
from retail_stream import dead_letters, topics
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, connections_of, init_settings_of

CUSTOMERS = topics.dlq(Entity.CUSTOMERS)
AT_MS = 1_772_352_000_000


@pytest.fixture(scope="module")
def there(empty_stack: Servers) -> Connections:
    return connections_of(empty_stack)


@pytest.fixture
def rows(there: Connections) -> Engine:
    return postgres.engine(there.database_url)


def publish(connections: Connections, message: str, ids: range) -> None:
    """A letter of each id, all in partition 0."""
    producer = clients.producer(connections)
    for n in ids:
        why = Rejected(("key_is_id",), Stage.TRANSFORMATION, message)
        headers = dead_letters.headers(topics.raw(Entity.CUSTOMERS), 0, n, why, "1")
        producer.produce(CUSTOMERS, b"no record", str(n).encode(), partition=0, timestamp=AT_MS, headers=headers)
    assert producer.flush(30) == 0


def messages(rows: Engine) -> dict[str, int]:
    query = text("SELECT message, count(*) FROM dead_letters WHERE entity = 'customers' GROUP BY 1")
    with rows.connect() as connection:
        return dict(map(tuple, connection.execute(query)))


def test_loads_at_once_and_a_forgetting_meanwhile_leave_each_other_letter_once(there, rows):
    publish(there, "first", range(6_000))
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, there) for _ in range(3)]
        forgotten = pool.submit(forget, there, Entity.CUSTOMERS, 5_999)
        added = sum(future.result(120) for future in loads)
        forgotten.result(120)
    assert messages(rows) == {"first": 5_999}
    assert added in (5_999, 6_000)
    assert load(there) == 0


def test_a_topic_that_was_made_anew_and_is_longer_now_replaces_its_rows(there, rows, empty_stack):
    admin = clients.admin(there)
    admin.delete_topics([CUSTOMERS])[CUSTOMERS].result(30)
    eventually(lambda: CUSTOMERS not in admin.list_topics(timeout=10).topics, "it is gone")
    initialise(init_settings_of(empty_stack))
    publish(there, "second", range(6_100))
    (line,) = (check for check in verify(there).checks if check.name == "topics_read")
    assert any("customers.dlq" in example for example in line.examples), line
    assert load(there) == 6_099, "all but that of the forgotten id"
    assert messages(rows) == {"second": 6_099}
    (line,) = (check for check in verify(there).checks if check.name == "topics_read")
    assert line.ok, line
