"""What the database itself refuses: histories that overlap, have two open versions or are empty."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, NotSupportedError

from services.scd_merger.dimensions import Dimension, dimensions
from tests.harness.eventually import eventually


@pytest.mark.parametrize("dimension", dimensions(), ids=str)
def test_the_migration_makes_the_declared_columns(warehouse: Engine, dimension: Dimension) -> None:
    with warehouse.connect() as connection:
        there = {
            name: connection.execute(text(f"SELECT * FROM {name} LIMIT 0")).keys()
            for name in (dimension.table, dimension.changes_table)
        }
    d = dimension
    ends = [d.sequence, "valid_from", "valid_to", "is_current"]
    assert list(there[d.table]) == [d.surrogate, d.key, *d.attributes, *ends]
    assert list(there[d.changes_table]) == list(d.change_schema)


_STORE = text("""
    INSERT INTO dim_stores (store_id, name, address, manager, open_date, status, phone_number, valid_from, valid_to)
    VALUES (1, '', '', '', 'epoch', '', '', to_timestamp(:start), to_timestamp(:end))
""")


#                 10        20
#   stored        |---------)        30 |-----
@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (15, 18, "no_overlap"),
        (5, 11, "no_overlap"),
        (19, 25, "no_overlap"),
        (25, None, "one_open"),
        (40, None, "one_open"),
        (22, 22, "not_empty"),
        (22, 21, "not_empty"),
    ],
)
def test_the_database_refuses_a_wrong_history(warehouse: Engine, start: int, end: int | None, rule: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(_STORE, [{"start": 10, "end": 20}, {"start": 30, "end": None}])
    with pytest.raises(IntegrityError, match=f"dim_stores_{rule}"), warehouse.begin() as connection:
        connection.execute(_STORE, {"start": start, "end": end})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("valid_to = to_timestamp(31) WHERE valid_to IS NOT NULL", "no_overlap"),
        ("valid_to = NULL WHERE valid_to IS NOT NULL", "one_open"),
        ("valid_from = to_timestamp(19) WHERE valid_to IS NULL", "no_overlap"),
    ],
)
def test_the_database_refuses_an_update_that_makes_a_wrong_history(warehouse: Engine, change: str, rule: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(_STORE, [{"start": 10, "end": 20}, {"start": 30, "end": None}])
    with pytest.raises(IntegrityError, match=rule), warehouse.begin() as connection:
        connection.execute(text(f"UPDATE dim_stores SET {change}"))


def test_the_database_compares_with_what_another_transaction_has_not_committed_yet(warehouse: Engine) -> None:
    with ThreadPoolExecutor(1) as pool, warehouse.connect() as first:
        first.execute(_STORE, {"start": 10, "end": 20})

        def second() -> None:
            with warehouse.begin() as connection:
                connection.execute(_STORE, {"start": 15, "end": 25})

        refused = pool.submit(second)
        waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as look:
            eventually(lambda: look.execute(waits).scalar_one() == 1, "the second waits for the first", 10)
        first.commit()
        with pytest.raises(IntegrityError, match="dim_stores_no_overlap"):
            refused.result(10)


def test_a_transaction_that_would_not_see_what_others_wrote_may_not_write_history(warehouse: Engine) -> None:
    with (
        pytest.raises(NotSupportedError, match="dim_stores is written in READ COMMITTED: a REPEATABLE READ"),
        warehouse.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
    ):
        connection.execute(_STORE, {"start": 10, "end": 20})
