"""`verify` over a real run of the four services is green. Then each damage is named, and nothing else is.

Damages are made to a copy of the database, or to records on their way to the reader, so each is undone with its test.
`damages.py` makes the families: many damages at once, each to a row or record of its own. A damage that does no harm
stands in HARMLESS with the reason.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, text

from commands.demo.pipeline import Pipeline, Service
from commands.dlq import load as dead_letters
from commands.embedded.processes import ProcessGroup
from commands.score import command, judge
from commands.verify import catalogue, compare, load, warehouse
from commands.verify import run as verify
from commands.verify.report import Check
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result, clean, dlq
from retail_stream.warehouse import postgres
from tests.harness.drain import PATIENCE_S, drain
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, connections_of, copied_database, odd_defaults
from tests.integration.commands.score import damages as score_damages
from tests.integration.commands.verify import damages, families, streams
from tests.integration.commands.verify.alterations import altering
from tests.integration.commands.verify.damages import Altered, reading_through
from tests.integration.commands.verify.expectations import (
    ABSENT,
    CHOSEN,
    DERIVED,
    FOLLOWS,
    GONE,
    HARMLESS,
    HARMLESS_IN_TOPICS,
    INVENTED_BY,
    KEYS_OF_VIEWS,
    STATE,
    VIEWS,
    Damage,
    lines_of,
    of_column,
    shown,
)
from tests.integration.commands.verify.reports import run

SETTINGS = {
    "GENERATOR_SEED": "7",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "1500",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "GENERATOR_FAULT_CORRUPT_BYTES": "0.02",
    "GENERATOR_EVOLVE_AFTER_S": "20",
    "LATENCY_MAX_S": "1200",
    "SALES_WINDOWS": "5s,15s/5s",
    "ALLOWED_LATENESS_S": "600",
    "IDLE_TIMEOUT_S": "1",
}


@pytest.fixture(scope="module")
def done(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Connections:
    """Servers on which the services have run to the end of two bounded streams; only the servers still run.

    The second stream comes when all partitions are idle: they wake, and windows that have fired are revised.
    """
    connections = connections_of(empty_stack)
    odd_defaults(connections)
    with ProcessGroup() as group:
        pipeline = Pipeline(group, {**empty_stack.env, **SETTINGS}, tmp_path_factory.mktemp("logs"))
        for service in Service:
            pipeline.start(service)
        drain(pipeline, connections)
        eventually(lambda: _is_idle(connections), "all partitions are idle", PATIENCE_S)
        streams.publish_more(connections)
        drain(pipeline, connections)
        for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR):
            assert pipeline.stop(service) == 0, pipeline.log(service).read_text()[-2000:]
    assert dead_letters.load(connections) > 0
    assert dead_letters.load(connections) == 0, "each letter once"
    return connections


def _is_idle(connections: Connections) -> bool:
    with _connected(connections) as connection:
        return connection.execute(text("SELECT advanced_at IS NOT NULL FROM stream_watermark")).scalar_one()


@contextmanager
def _connected(connections: Connections) -> Iterator[Connection]:
    engine = postgres.engine(connections.database_url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture(autouse=True)
def all_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MAX_EXAMPLES", 100_000)


def checked(connections: Connections) -> tuple[Check, ...]:
    return verify.run(connections).checks


def red(checks: Sequence[Check]) -> dict[str, tuple[str, ...]]:
    """The lines that did not pass, with all of their examples."""
    return {c.name: c.examples for c in checks if not c.ok}


def test_a_good_pipeline_is_green_and_has_something_of_everything(done):
    checks = checked(done)
    assert red(checks) == {}
    nothing = {c.name for c in checks if not c.expected}
    assert nothing <= {"sales with ids in no dimension", "stream_watermark, its clock"}, nothing


def require_named(checks: Sequence[Check], made: Sequence[Damage], also: Sequence[str] = ()) -> None:
    """Each damage is named by one of its lines, and no line is red but theirs and ``also``, which follow from them."""
    wrong = red(checks)
    unnamed = [damage for damage in made if not damage.is_named(wrong)]
    others = {line: examples[:3] for line, examples in wrong.items() if line not in {*also, *_lines(made)}}
    assert (unnamed, others) == ([], {}), wrong


def _lines(made: Sequence[Damage]) -> set[str]:
    return {line for damage in made for line in damage.lines}


def test_every_column_of_every_table_is_compared(done):
    with _connected(done) as connection:
        tables = [t for t in damages.columns(connection) if t.kind != "v" and (t.relation, t.name) not in STATE]
        todo = [t for t in tables if not {(t.relation, t.name), ("*", t.name)} & HARMLESS.keys()]
        planned = list(damages.rounds(connection, todo))
    assert len({target for plan in planned for target, _ in plan}) >= families.COLUMNS.at_least
    for plan in planned:
        with copied_database(done) as copy:
            with _connected(copy) as connection:
                for target, row in plan:
                    damages.change(connection, target, row)
            checks = checked(copy)
        made = [of_column(target) for target, _ in plan]
        require_named(checks, made, [line for t, _ in plan for line in FOLLOWS.get(t.relation, ())])


def test_no_table_is_left_out(done):
    """Tables without rows in a drained pipeline have their invented rows in another test."""
    with _connected(done) as connection:
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
        with _connected(copy) as connection:
            for statement in statements:
                assert connection.execute(text(statement)).rowcount == 1
        wrong = red(checked(copy))
    for damage in made:
        assert damage.is_named(wrong), (damage, wrong)
    # A line without examples: facts that nothing says are wrong, but that they are there.
    assert ("fact_sales" in wrong) == any("'off'" in statement for statement in statements)


def test_every_row_counts(done):
    with copied_database(done) as copy:
        with _connected(copy) as connection:
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
        with _connected(copy) as connection:
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


def test_every_column_of_every_view_and_every_function_is_compared(done):
    made = []
    with copied_database(done) as copy:
        with _connected(copy) as connection:
            shown = [t for t in damages.columns(connection) if t.kind == "v"]
            assert {t.relation for t in shown} == VIEWS.keys()
            for view, line in VIEWS.items():
                targets = [t for t in shown if t.relation == view]
                rows = connection.execute(text(f"SELECT count(*) FROM public.{view}")).scalar_one()
                damages.spoil_view(connection, view, targets, rows)
                for t in targets:
                    is_key = t.name in KEYS_OF_VIEWS.get(view, ())
                    made.append(Damage(f"{view}.{t.name}", [line], ABSENT if is_key else [f"{t.name} expected"]))
            for entity in DIMENSIONS:
                key = f"{entity.removesuffix('s')}_id"
                connection.exec_driver_sql(f"""
                    CREATE OR REPLACE FUNCTION {entity}_as_of(moment timestamptz, key integer DEFAULT NULL)
                    RETURNS SETOF dim_{entity} LANGUAGE sql STABLE AS
                    'SELECT * FROM dim_{entity}
                     WHERE (key IS NULL OR {key} = key) AND (valid_to > moment OR valid_to IS NULL)'
                """)
                made.append(Damage(f"{entity}_as_of", [f"{entity}_as_of"], ["should not be there"]))
        checks = checked(copy)
    assert len(made) >= families.SHOWN.at_least
    require_named(checks, made, ["tables as declared"])


def test_the_catalogue_has_every_object(done):
    """If a migration changed one: DATABASE_URL=… python -m commands.verify.catalogue > migrations/catalogue.json."""
    with _connected(done) as connection:
        there = {row.object: row.detail for row in connection.exec_driver_sql(catalogue.CATALOGUE.replace("%", "%%"))}
    assert there == catalogue.declared()


def test_every_object_of_the_catalogue_is_compared(done):
    made = []
    with copied_database(done) as copy:
        with _connected(copy) as connection:
            # Constraints before the columns that they need.
            for kind in ("trigger", "constraint", "index", "function", "comment", "grant", "column"):
                for thing in catalogue.declared():
                    if thing.startswith(f"{kind} ") and (statement := altering(connection, thing)):
                        connection.exec_driver_sql(statement.replace("%", "%%"))
                        made.append(Damage(thing, ["tables as declared"], [f"'{thing}'"]))
            connection.exec_driver_sql(
                "CREATE TRIGGER stranger BEFORE INSERT ON dim_stores FOR EACH STATEMENT"
                " EXECUTE FUNCTION one_history_writer()"
            )
            made.append(Damage("a trigger more", ["tables as declared"], ["dim_stores.stranger': should not be there"]))
        checks = checked(copy)
    assert len(made) >= families.CATALOGUE.at_least
    require_named(checks, made, ["triggers and keys"])


def test_every_header_of_every_derived_topic_is_compared(done):
    change, made = Altered(), []
    for topic in DERIVED:
        records = list(read_to_end(done, topic))
        for name, m, instead in damages.header_damages(records):
            change.records[damages.place(m)] = instead
            if not {(topic, name), ("*", name)} & HARMLESS_IN_TOPICS.keys():
                made.append(Damage(f"{topic}: {name}", lines_of(topic), list(shown(topic, m))))
    assert len(made) >= families.HEADERS.at_least
    with reading_through(change):
        checks = checked(done)
    # Of a record that names rules which never existed it cannot be known whether they reject it.
    judged = ["fact_sales", "sale_identities", "partition_watermarks", "sales_by_window", "sales_by_product_window"]
    require_named(checks, made, [*judged, *(line for topic in DERIVED for line in lines_of(topic))])


def test_every_sum_of_every_revision_is_compared(done):
    """All fields of results of windows, the newest and those that others replaced, but the time of publication."""
    results = list(read_to_end(done, Result.WINDOWS.value))
    change, made = Altered(), []
    last = {streams.window_key(m): streams.window(m)["revision"] for m in results}
    revised = [m for m in results if streams.window(m)["revision"] < last[streams.window_key(m)]]
    newest = [m for m in results if streams.window(m)["revision"] == last[streams.window_key(m)]]
    for records in (revised, newest):
        for name, m, instead in streams.window_damages(records):
            change.records[damages.place(m)] = instead
            r = streams.window(m)
            number = f"id {r['store_id'] or r['product_id']} revision {r['revision']}"
            made.append(
                Damage(f"{name}", ["sales.windows", "sales.windows, revisions"], [number, number.partition(" rev")[0]])
            )
    assert len(made) >= families.REVISIONS.at_least
    with reading_through(change):
        checks = checked(done)
    require_named(checks, made, ["outbox", "window_revisions"])


def missed(connections: Connections) -> list[str]:
    """All examples of planted records that were missed, as `score` prints them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_EXAMPLES", 100_000)
        return [example for fault in command.run(connections).faults for example in fault.examples]


def test_score_misses_nothing(done):
    assert missed(done) == []


def test_score_sees_what_is_wrong_in_the_topics(done):
    change, made = Altered(), []
    for name, planted, m, instead, words in score_damages.of_topics(score_damages.Records(done)):
        change.records[damages.place(m)] = instead
        made.append((name, planted.shown, words))
    assert len(made) >= families.SCORED_TOPICS.at_least
    with reading_through(change):
        seen = missed(done)
    assert [d for d in made if not any(e.startswith(d[1]) and d[2] in e for e in seen)] == []
    # The others are of the same window or the same id, or the sale whose late record is another's now.
    others = [e for e in seen if not any(e.startswith(d[1]) for d in made)]
    assert [e for e in others if not any(w in e for w in ("its window", "its id", "not on sales.late"))] == []


def test_score_sees_what_is_wrong_in_the_warehouse(done):
    made = list(score_damages.of_warehouse(score_damages.Records(done)))
    assert len(made) >= families.SCORED_WAREHOUSE.at_least
    with copied_database(done) as copy:
        with _connected(copy) as connection:
            for name, _, statement, _ in made:
                assert connection.execute(text(statement)).rowcount > 0, name
        seen = missed(copy)
    assert [d for d in made if not any(e.startswith(d[1].shown) and w in e for e in seen for w in d[3])] == []
    others = [e for e in seen if not any(e.startswith(d[1].shown) for d in made)]
    assert [e for e in others if "its window" not in e and "its id" not in e] == []


def test_records_that_were_published_again_or_never_are_named(done):
    """A result again under another warehouse's id, a rise of the year 2030, and a good sale as a dead letter."""
    change = Altered()
    first, *_, again = (m for m in read_to_end(done, Result.WINDOWS.value) if m.partition() == 0)
    foreign = [("outbox.id", b"00000000-0000-0000-0000-000000000000/1")]
    change.records[damages.place(again)] = damages.altered(again, value=first.value(), key=first.key(), headers=foreign)
    *_, rise = read_to_end(done, Result.WATERMARKS.value)
    change.records[damages.place(rise)] = damages.altered(rise, value=streams.risen(rise, 2030), headers=foreign)
    good = next(m for m in read_to_end(done, clean(Entity.SALES)) if m.partition() == 0)
    letter = next(m for m in read_to_end(done, dlq(Entity.SALES)) if m.partition() == 0)
    source = int.from_bytes(dict(good.headers() or ())["source.offset"] or b"", "big")
    other = {"__connect.errors.offset": str(source).encode(), "rules.version": b"never"}
    headers = [(n, other.get(n, v)) for n, v in letter.headers() or ()]
    change.records[damages.place(letter)] = damages.altered(letter, headers=headers)
    with reading_through(change):
        checks = checked(done)
    made = [
        Damage("a result again", ["outbox"], [f"sales.windows/0@{again.offset()}: is of the warehouse 00000000"]),
        Damage("and not the right one", ["sales.windows"], [": missing"]),
        Damage("a rise of 2030", ["sales.watermarks"], ["is ahead of its own time"]),
        Damage("a good sale", ["sales.dlq"], [f"sales.raw/0@{source}: breaks no rule, and is in sales.dlq"]),
        Damage("rules that never were", ["cleaner.rules"], ["names the rules.version never"]),
    ]
    # What would be late by that rise is so no more.
    late = ["partition_watermarks", "sales_by_window", "sales_by_product_window", "sales.late", "late_sales"]
    late += ["sale_identities", "sales.windows, revisions", "stream_watermark", "window_revisions", "dead_letters"]
    require_named(checks, made, late)


def _end_queries(connections: Connections) -> int:
    """End the sessions that execute a query; returns their number."""
    with _connected(connections) as connection:
        ended = connection.execute(
            text("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'
            """)
        ).scalars()
        return sum(ended)


@pytest.mark.parametrize(
    "damage", ["", "DELETE FROM dim_stores WHERE store_sk = (SELECT max(store_sk) FROM dim_stores)"]
)
def test_a_session_that_ends_while_the_view_is_read_costs_its_reading_only(done, monkeypatch, damage):
    read_topics, ended = load._topics, []
    # Materialized: the planner may otherwise sleep once for each row.
    view = warehouse.QUERIES["sales_enriched"]
    slow = f"WITH slow AS MATERIALIZED (SELECT pg_sleep(2)) SELECT q.* FROM slow, ({view}) q"
    monkeypatch.setitem(warehouse.QUERIES, "sales_enriched", slow)
    with copied_database(done) as copy:

        def topics(*args):
            ended.append(_end_queries(copy))
            return read_topics(*args)

        monkeypatch.setattr(load, "_topics", topics)
        if damage:
            with _connected(copy) as connection:
                connection.execute(text(damage))
        code, output = run(copy)
    assert ended == [1]
    assert "read in a second snapshot" in output
    assert code == bool(damage), output
