"""`verify` over a real run of the services is green. Then each damage to a table is named, and nothing else is.

Damages are made to a copy of the database, so each is undone with its test. `damages.py` makes the families: many at
once, each to a row of its own. A damage that does no harm stands in HARMLESS with the reason.
"""

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, text

from tests.harness.servers import copied_database
from tests.integration.commands.verify import damages, families
from tests.integration.commands.verify.damaged.checking import checked, connected, red, require_named
from tests.integration.commands.verify.expectations import (
    CHOSEN,
    FOLLOWS,
    GONE,
    HARMLESS,
    INVENTED_BY,
    STATE,
    Damage,
    of_column,
)


def test_a_good_pipeline_is_green_and_has_something_of_everything(done):
    checks = checked(done)
    assert red(checks) == {}
    nothing = {c.name for c in checks if not c.expected}
    assert nothing <= {"sales with ids in no dimension", "stream_watermark, its clock"}, nothing


def test_every_column_of_every_table_is_compared(done):
    with connected(done) as connection:
        tables = [t for t in damages.columns(connection) if t.kind != "v" and (t.relation, t.name) not in STATE]
        todo = [t for t in tables if not {(t.relation, t.name), ("*", t.name)} & HARMLESS.keys()]
        planned = list(damages.rounds(connection, todo))
    assert len({target for plan in planned for target, _ in plan}) >= families.COLUMNS.at_least
    for plan in planned:
        with copied_database(done) as copy:
            with connected(copy) as connection:
                for target, row in plan:
                    damages.change(connection, target, row)
            checks = checked(copy)
        made = [of_column(target) for target, _ in plan]
        require_named(checks, made, [line for t, _ in plan for line in FOLLOWS.get(t.relation, ())])


def test_no_table_is_left_out(done):
    """Tables without rows in a drained pipeline have their invented rows in another test."""
    with connected(done) as connection:
        empty = {
            t.relation
            for t in damages.columns(connection)
            if t.kind != "v" and not connection.execute(text(f"SELECT EXISTS (SELECT FROM {t.relation})")).scalar_one()
        }
    assert empty == {"outbox", "stored_before", "replayed_rises", "forgotten", "kept_since"}


@pytest.mark.parametrize(
    ("statements", "made"),
    [
        (
            [
                "UPDATE consumer_positions SET consumer_group = 'no' WHERE topic = 'customers.clean' AND partition = 0",
                "UPDATE consumer_positions SET topic = 'no.clean' WHERE topic = 'products.clean' AND partition = 0",
                "UPDATE consumer_positions SET partition = 9 WHERE topic = 'stores.clean' AND partition = 0",
            ],
            [
                Damage("a group", ["consumer_positions"], ["'no' topic 'customers.clean' partition 0: should not"]),
                Damage("a topic", ["consumer_positions"], ["topic 'no.clean' partition 0: should not be there"]),
                Damage("a partition", ["consumer_positions"], ["topic stores.clean partition 9: next_offset"]),
            ],
        ),
        (
            ["UPDATE partition_watermarks SET topic = 'no' WHERE partition = 1",
             "UPDATE partition_watermarks SET partition = 9 WHERE partition = 2"],
            [
                Damage("a topic", ["consumer_positions"], ["partition 1: epoch expected nothing"]),
                Damage("a partition", ["consumer_positions"], ["partition 2: epoch expected nothing"]),
            ],
        ),
        (
            ["UPDATE stream_watermark SET watermark = watermark - interval '1 hour'"],
            [Damage("a watermark", ["stream_watermark"], ["behind"])],
        ),
        (
            ["UPDATE stored_settings SET value = 'soon' WHERE name = 'SALES_WINDOWS'",
             "UPDATE stored_settings SET name = 'FACTS' WHERE name = 'FACT_SALES'",
             "UPDATE warehouse_id SET id = gen_random_uuid()"],
            [
                Damage("a value", ["stored_settings"], ["name 'SALES_WINDOWS': 'soon' is not a valid value"]),
                Damage("a name", ["stored_settings"], ["name 'FACTS': should not be there"]),
                Damage("an id", ["sales.windows"], ["missing"]),
            ],
        ),
        (
            ["UPDATE stored_settings SET value = 'off' WHERE name = 'FACT_SALES'",
             "INSERT INTO warehouse_id VALUES (gen_random_uuid())"],
            [
                Damage("a second id", ["warehouse_id"], ["is one of 2"]),
            ],
        ),
    ],
    ids=["positions", "watermarks", "the stream's", "settings", "facts are said to be off"],
)  # fmt: skip
def test_state_is_compared(done, statements, made):
    with copied_database(done) as copy:
        with connected(copy) as connection:
            for statement in statements:
                assert connection.execute(text(statement)).rowcount == 1
        wrong = red(checked(copy))
    for damage in made:
        assert damage.is_named(wrong), (damage, wrong)
    # A line without examples: facts that nothing says are wrong, but that they are there.
    assert ("fact_sales" in wrong) == any("'off'" in statement for statement in statements)


def test_every_row_counts(done):
    with copied_database(done) as copy:
        with connected(copy) as connection:
            gone = [_delete(connection, table) for table in GONE]
        checks = checked(copy)
    assert len(gone) >= families.GONE.at_least
    require_named(checks, gone, ["sales.windows", "sales.windows, revisions"])


def _delete(connection: Connection, table: str) -> Damage:
    leaf, ctid = connection.execute(
        text(f"SELECT tableoid::regclass, ctid::text FROM {table} {CHOSEN.get(table, '')} LIMIT 1")
    ).one()
    assert connection.execute(text(f"DELETE FROM ONLY {leaf} WHERE ctid = '{ctid}'")).rowcount == 1
    return Damage(f"a row of {table}", [table], [GONE[table]])


def test_no_row_is_invented(done):
    with copied_database(done) as copy:
        with connected(copy) as connection:
            made = [_invent(connection, table, keys) for table, keys in INVENTED_BY.items()]
            connection.execute(text("INSERT INTO stored_before VALUES (0, 1000000000)"))
            connection.execute(text("INSERT INTO replayed_rises VALUES (0, 5, '2030-01-01T00:00:00Z')"))
            # Nothing reads a time in the future, and it hides no other damage.
            connection.execute(text("INSERT INTO kept_since VALUES ('windows', '2130-01-01T00:00:00Z')"))
            connection.execute(
                text("INSERT INTO forgotten SELECT 'stores', min(store_id), '2030-01-01T00:00:00Z' FROM dim_stores")
            )
            connection.execute(
                text(
                    "INSERT INTO outbox (topic, key, value, headers, timestamp_ms) VALUES"
                    " ('sales.windows', '1', '\\x0000000001', '[[\"nonsense\", \"00\"]]', 1)"
                )
            )
        checks = checked(copy)
    made += [
        Damage("a row of forgotten", ["dim_stores"], ["should not be there"]),
        Damage("a row of stored_before", ["late_sales"], ["should not be there"]),
        Damage("a rise of the year 2030", ["sales.watermarks"], ["replayed_rises partition 0 next_offset 5"]),
        Damage("a row of the outbox", ["outbox"], ["has headers that no result has"]),
    ]
    assert len(made) >= families.INVENTED.at_least
    require_named(checks, made, ["sales.windows", "sales.windows, revisions", "pipeline_state", "stream_watermark"])


def _invent(connection: Connection, table: str, keys: Sequence[str]) -> Damage:
    targets = [t for t in damages.columns(connection) if t.relation == table and t.kind != "v"]
    names = ", ".join(f'"{t.name}"' for t in targets)
    values = ", ".join(t.changed if t.name in keys else f'"{t.name}"' for t in targets)
    connection.exec_driver_sql(f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} LIMIT 1")
    words = {"sale_identities": "its identity is held 2 times", "late_sales": "nth 2: should not be there"}
    return Damage(f"a row of {table}", [table], [words.get(table, "should not be there")])
