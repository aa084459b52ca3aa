"""SCD type 2 as `verify` recomputes it, on streams small enough to read."""

import pytest

from commands.audit.engine import Engine, connect
from commands.audit.versions import make_versions
from commands.verify import versions
from retail_stream.entities import Entity
from retail_stream.topics import Group


@pytest.fixture
def engine(tmp_path) -> Engine:
    return connect(tmp_path)


COLUMNS = "id, moment, deleted, name, address, manager, open_date, status, phone_number"


def change(store: int, at: int, name: str | None, **other: str) -> str:
    """A change of a store as a row of SQL; a name of None is a delete."""
    if name is None:
        return f"({store}, {at}, true, NULL, NULL, NULL, NULL, NULL, NULL)"
    return f"({store}, {at}, false, '{name}', '{other.get('address', '')}', 'Unknown', 0, 'open', '1')"


def histories(engine: Engine, *changes: str) -> list[tuple]:
    make_versions(engine, Entity.STORES, f"SELECT * FROM (VALUES {', '.join(changes)}) t({COLUMNS})")
    return engine.execute(
        "SELECT name, valid_from, valid_to, is_current FROM versions_stores ORDER BY store_id, valid_from"
    ).fetchall()


def test_a_late_change_after_a_delete_does_not_bring_the_old_state_back(engine):
    changes = [change(1, 10, "a"), change(1, 11, "a"), change(1, 12, None), change(1, 20, "b")]
    assert histories(engine, *changes) == [("a", 10, 12, False), ("b", 20, None, True)]


def test_equal_neighbours_are_one_version_from_the_first_ones_time(engine):
    # 1──A──2     A@3 says nothing new
    assert histories(engine, change(1, 1, "A"), change(1, 3, "A"), change(1, 2, "B")) == [
        ("A", 1, 2, False),
        ("B", 2, 3, False),
        ("A", 3, None, True),
    ]
    assert histories(engine, change(1, 1, "A"), change(1, 3, "A")) == [("A", 1, None, True)]


def test_a_delete_of_an_unknown_key_leaves_no_version_and_closes_what_comes_late(engine):
    assert histories(engine, change(1, 5, None)) == []
    assert histories(engine, change(1, 5, None), change(1, 3, "a")) == [("a", 3, 5, False)]


def test_of_two_changes_at_one_time_the_delete_wins_then_the_larger_attributes(engine):
    assert histories(engine, change(1, 5, "z"), change(1, 5, None)) == []
    assert histories(engine, change(1, 5, "b"), change(1, 5, "a")) == [("b", 5, None, True)]
    # By UTF-8 bytes: every capital before every small letter, and both before an accented one.
    assert histories(engine, change(1, 5, "Z"), change(1, 5, "a"), change(1, 5, "é")) == [("é", 5, None, True)]
    assert histories(engine, change(1, 5, "Z"), change(1, 5, "a")) == [("a", 5, None, True)]
    tied = change(1, 5, "a", address="2"), change(1, 5, "a", address="10")
    histories(engine, *tied)
    assert engine.execute("SELECT address FROM versions_stores").fetchall() == [("2",)]


def test_the_order_in_which_changes_came_does_not_matter(engine):
    changes = [change(1, 10, "a"), change(1, 11, "b"), change(1, 12, None), change(2, 1, "c"), change(1, 11, "b")]
    assert histories(engine, *changes) == histories(engine, *reversed(changes))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM dim_stores WHERE valid_from = 2", "store_id 1 valid_from 1970-01-01T00:00:00.000002Z: missing"),
        ("UPDATE dim_stores SET name = 'C' WHERE valid_from = 2", "name expected 'B', found 'C'"),
        ("UPDATE dim_stores SET valid_to = 3 WHERE valid_from = 2", "valid_to expected nothing, found 1970"),
        ("UPDATE dim_stores SET is_current = true", "is_current expected False, found True"),
        ("INSERT INTO dim_stores SELECT * REPLACE (9 AS store_id) FROM dim_stores LIMIT 1", "should not be there"),
    ],
)
def test_a_changed_version_is_named(engine, damage, words):
    histories(engine, change(1, 1, "A"), change(1, 2, "B"))
    engine.execute("CREATE TABLE dim_stores AS SELECT * FROM versions_stores")
    assert versions.version_check(engine, Entity.STORES).ok

    engine.execute(damage)

    check = versions.version_check(engine, Entity.STORES)
    assert not check.ok
    assert check.differ == 1
    assert words in check.examples[0]


def test_prices_are_compared_in_cents_rounded_half_to_even(engine):
    row = "(7, 1, false, 'n', 'c', 'b', {}, 1, 'M', 'red', 'd')"
    names = "id, moment, deleted, name, category, brand, price, stock_quantity, size, color, description"
    make_versions(engine, Entity.PRODUCTS, f"SELECT * FROM (VALUES {row.format('0.125::DOUBLE')}) t({names})")
    engine.execute("CREATE TABLE dim_products AS SELECT * REPLACE (12 AS price) FROM versions_products")
    assert versions.version_check(engine, Entity.PRODUCTS).ok
    engine.execute("UPDATE dim_products SET price = 13")
    assert "price expected 0.12, found 0.13" in versions.version_check(engine, Entity.PRODUCTS).examples[0]


@pytest.fixture
def behind(engine) -> Engine:
    """Five raw records, of which the cleaner wrote 0, 1, 2 and again 1, 2 before it went on with 3 and 4."""
    engine.execute(
        'CREATE TABLE raw_stores AS SELECT 0 AS partition, i AS "offset", NULL::BLOB AS replay_of FROM range(5) t(i)'
    )
    engine.execute('CREATE TABLE places_stores AS SELECT partition, "offset", true AS good FROM raw_stores')
    engine.execute(
        "CREATE TABLE first_stores AS SELECT * FROM (VALUES (0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 5, 3), (0, 6, 4))"
        ' t(partition, "offset", source_offset)'
    )
    engine.execute("CREATE TABLE positions (consumer_group TEXT, topic TEXT, partition BIGINT, next_offset BIGINT)")
    return engine


@pytest.mark.parametrize(("position", "offsets"), [(0, []), (3, [0, 1, 2]), (5, [0, 1, 2]), (6, [0, 1, 2, 3])])
def test_only_records_before_the_consumers_position_count(behind, position, offsets):
    behind.execute(f"INSERT INTO positions VALUES ('scd_merger', 'stores.clean', 0, {position})")
    seen = versions.consumed(Entity.STORES, Group.SCD_MERGER)
    assert behind.execute(f'SELECT "offset" FROM ({seen}) ORDER BY 1').fetchall() == [(o,) for o in offsets]


def test_of_two_replays_of_one_record_the_first_counts(behind):
    behind.execute("INSERT INTO positions VALUES ('scd_merger', 'stores.clean', 0, 7)")
    behind.execute("UPDATE raw_stores SET replay_of = 'stores.raw/0/9'::BLOB WHERE \"offset\" IN (1, 4)")
    seen = versions.consumed(Entity.STORES, Group.SCD_MERGER)
    assert behind.execute(f'SELECT "offset" FROM ({seen}) ORDER BY 1').fetchall() == [(0,), (1,), (2,), (3,)]
