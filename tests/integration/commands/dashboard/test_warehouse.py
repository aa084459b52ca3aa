"""What the page reads from Postgres: the sales as of each version, and its sentences for refusals."""

import random
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from commands.dashboard import warehouse as reads
from commands.dashboard.settings import DashboardSettings
from commands.status import status
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.settings import Connections

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    return DAY + timedelta(minutes=minute)


@pytest.fixture
def filled(warehouse: Engine) -> Engine:
    """Store 1 has [10, 20), [20, 30), then nothing until [40, ∞); 2,000 sales of two stores from 0 to 60."""
    names = "store_id, name, address, manager, open_date, status, phone_number, valid_from, valid_to"
    with warehouse.begin() as connection:
        for start, end in ((10, 20), (20, 30), (40, None)):
            connection.execute(
                text(f"INSERT INTO dim_stores ({names}) VALUES (1, :n, 'a', 'm', :d, 's', 'p', :start, :end)"),
                {"n": f"from {start}", "d": DAY, "start": at(start), "end": None if end is None else at(end)},
            )
        day = "FROM ('2026-03-01T00:00Z') TO ('2026-03-02T00:00Z')"
        connection.execute(text(f"CREATE TABLE fact_day PARTITION OF fact_sales FOR VALUES {day}"))
        chance = random.Random(5)
        sales = [
            # As often on the bounds of versions as between them.
            {"id": i, "store": 1 + i % 2, "at": at(chance.randrange(0, 60, 5)), "n": chance.randrange(-3, 9)}
            for i in range(2000)
        ]
        connection.execute(
            text("INSERT INTO fact_sales VALUES (:id, :store, :at, 7, 8, :n, 1.10, 1.10 * :n, 'cash', 0, 0)"), sales
        )
    return warehouse


def dashboard(connections: Connections, url: str = "") -> DashboardSettings:
    return DashboardSettings(**connections.model_dump(), dashboard_database_url=url)


def test_sales_as_of_each_version_are_those_of_the_view(filled: Engine, connections: Connections) -> None:
    query = (
        "SELECT store_sk, count(*), sum(quantity), sum(total_amount) FROM sales_enriched WHERE store_id = 1 GROUP BY 1"
    )
    with filled.connect() as connection:
        wanted = {sk: tuple(rest) for sk, *rest in connection.execute(text(query))}
        starts = {
            row.valid_from: row.store_sk
            for row in connection.execute(text("SELECT valid_from, store_sk FROM dim_stores"))
        }
    with reads.session(reads.reader(dashboard(connections))) as connection:
        history = reads.history(connection, Entity.STORES, 1)
    assert history is not None
    sums_of = {starts[v["valid_from"]]: (v["sales"], v["units"], v["total_amount"]) for v in history["versions"]}
    assert sums_of == {sk: sums for sk, sums in wanted.items() if sk is not None}
    assert history["sales_without_version"] == wanted[None][0] > 0
    assert history["sales_counted"]
    assert sum(v["sales"] for v in history["versions"]) + history["sales_without_version"] == 1000


def test_versions_are_shown_when_their_sales_take_too_long(
    filled: Engine, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reads, "_SALES_OF_VERSIONS", "SELECT pg_sleep(9), {sk}, '{entity}' FROM dim_stores WHERE {key} = :number"
    )
    monkeypatch.setitem(reads._SESSION, "statement_timeout", "300ms")
    with reads.session(reads.reader(dashboard(connections))) as connection:
        history = reads.history(connection, Entity.STORES, 1)
    assert history is not None
    assert not history["sales_counted"]
    assert [v["sales"] for v in history["versions"]] == [None] * 3
    assert [v["fields"]["name"] for v in history["versions"]] == ["from 40", "from 20", "from 10"]


def test_a_query_that_takes_too_long_is_not_an_outage(
    warehouse: Engine, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reads._SESSION, "statement_timeout", "200ms")
    with (
        pytest.raises(reads.TooSlow, match="did not answer within 5 s"),
        reads.session(reads.reader(dashboard(connections))) as connection,
    ):
        connection.execute(text("SELECT pg_sleep(9)"))


def test_a_refusal_of_postgres_is_one_sentence(warehouse: Engine, connections: Connections) -> None:
    server, _, name = connections.database_url.rpartition("/")
    scheme, _, place = server.rpartition("@")
    looker = f"looker_{name}"
    with psycopg.connect(connections.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {looker} LOGIN PASSWORD 'x'")
        admin.execute(f"CREATE DATABASE empty_{name}")
    user = scheme.partition("//")[2].partition(":")[0]
    cases = {
        f"{server}/no_{name}": (SettingsError, f'database "no_{name}" does not exist'),
        f"postgresql://{looker}:x@{place}/{name}": (RetailStreamError, "permission denied for (view|table) "),
        f"{server}/empty_{name}": (RetailStreamError, "has no tables yet; run `retail-stream init`."),
        f"postgresql://{user}:wrong@{place}/{name}": (SettingsError, "authentication failed"),
    }
    for url, (kind, expected) in cases.items():
        engine = reads.reader(dashboard(connections, url))
        with pytest.raises(kind, match=expected), reads.session(engine) as connection:
            reads.state(connection)
        with pytest.raises(kind, match=expected):
            status.look(engine, connections)
        engine.dispose()
    with psycopg.connect(connections.database_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE empty_{name}")
        admin.execute(f"DROP ROLE {looker}")


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM dim_customers", "CREATE TABLE mine (x int)", "UPDATE pipeline.stream_watermark SET watermark = NULL"],
)
def test_its_database_role_can_only_read(filled: Engine, connections: Connections, statement: str) -> None:
    engine = reads.reader(dashboard(connections))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM fact_sales")).scalar_one() > 0
        # Even where a session forgets that it is for reading.
        connection.rollback()
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text(statement))
    engine.dispose()


def test_long_texts_are_cut_and_a_change_beyond_the_cut_is_still_one(
    warehouse: Engine, connections: Connections
) -> None:
    columns = "store_id, name, address, manager, open_date, status, phone_number, valid_from, valid_to"
    with warehouse.begin() as connection:
        for n, (start, end) in enumerate(((10, 20), (20, None))):
            # Ten megabytes each; they differ in their last character.
            connection.execute(
                text(
                    f"INSERT INTO dim_stores ({columns}) "
                    "VALUES (1, repeat('é', 5_000_000) || :n, 'a', 'm', :d, 's', 'p', :start, :end)"
                ),
                {"n": str(n), "d": DAY, "start": at(start), "end": None if end is None else at(end)},
            )
    with reads.session(reads.reader(dashboard(connections))) as connection:
        history = reads.history(connection, Entity.STORES, 1)
        (found,) = reads.find(connection, Entity.STORES, "éé", 5)
    assert history is not None
    newest = history["versions"][0]
    assert newest["fields"]["name"].startswith("é" * 1000 + "… (5000001 characters, md5 ")
    assert list(newest["changed"]) == ["name"]
    assert newest["fields"]["manager"] == "m"
    assert len(found["name"]) == 200


@pytest.mark.parametrize("stored", ["Nguyễn Thị É", "Nguye\u0302\u0303n Thị E\u0301"])
def test_a_name_is_found_however_its_accents_are_written(
    warehouse: Engine, connections: Connections, stored: str
) -> None:
    columns = "store_id, name, address, manager, open_date, status, phone_number, valid_from"
    with warehouse.begin() as connection:
        connection.execute(
            text(f"INSERT INTO dim_stores ({columns}) VALUES (1, :n, 'a', 'm', :d, 's', 'p', :d)"),
            {"n": stored, "d": DAY},
        )
    with reads.session(reads.reader(dashboard(connections))) as connection:
        for words in ("Nguyễn", "Nguye\u0302\u0303n"):
            assert [row["id"] for row in reads.find(connection, Entity.STORES, words, 5)] == [1]
        assert reads.find(connection, Entity.STORES, "Nguyen", 5) == []
