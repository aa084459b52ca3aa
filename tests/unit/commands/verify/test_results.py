"""`sales.windows` and `sales.late` beside what the warehouse knows, as `verify` compares them."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import fastavro
import pytest

from commands.audit.avro import Decoder
from commands.audit.engine import Engine, connect
from commands.audit.results import LATE_HEADERS, LateTable, OutboxRecord, WindowTable
from commands.audit.windows import COUNTS, MONEY, USUAL, groupings, sizes
from commands.verify import results as checks
from commands.verify.facts import OF_SALES
from retail_stream import topics

S = 1_000_000
LATENESS = 30 * S
MINE, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

SUMS = "window_start + 60000000 AS window_end, 1 AS transactions, 1 AS units_sold, 0 AS units_returned,"
SUMS += " 100 AS gross_sales, 0 AS returns_amount, 0 AS discounts, 10 AS taxes, 100 AS net_sales"


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    engine.execute(f"CREATE TABLE warehouse_id AS SELECT '{MINE}' AS id")
    engine.execute("""
        CREATE TABLE published AS SELECT * FROM (VALUES ('sales.windows', 0, 100), ('sales.late', 0, 100))
        t(topic, partition, end_offset)
    """)
    return engine


def row(start: int, revision: int, state: str) -> str:
    return f"(60000000, {start * S}, 1, {revision}, '{state}')"


def result(offset: int | None, start: int, revision: int, state: str, warehouse: str = MINE, key: str = "1") -> str:
    at = "NULL" if offset is None else offset
    return f"(0, {at}, '{warehouse}', '{key}'::BLOB, 'store', 60000000, {start * S}, 1, {revision}, '{state}')"


def windows_check(engine: Engine, rows: list[str], results: list[str], changed: str = ""):
    engine.execute(f"""
        CREATE TABLE sales_by_window AS SELECT *, {SUMS} FROM (VALUES {", ".join(rows)})
        t(window_size, window_start, store_id, revision, state)
    """)
    engine.execute(
        "CREATE TABLE sales_by_product_window AS SELECT * RENAME (store_id AS product_id) FROM sales_by_window"
    )
    engine.execute("DELETE FROM sales_by_product_window")
    engine.execute(f"""
        CREATE TABLE window_results AS SELECT *, {SUMS} FROM (VALUES {", ".join(results)})
        t(partition, "offset", warehouse, key, kind, window_size, window_start, id, revision, state)
    """)
    if changed:
        engine.execute(changed)
    return checks.window_results(engine, groupings(USUAL, sizes("1m")))


ROWS = [row(0, 1, "final"), row(60, 0, "fired"), row(120, 0, "open")]
RESULTS = [result(0, 0, 0, "fired"), result(1, 0, 1, "fired"), result(2, 0, 1, "final"), result(3, 60, 0, "fired")]


def test_every_revision_and_the_final_result_once(engine):
    check = windows_check(engine, ROWS, RESULTS)
    assert (check.ok, check.expected, check.actual) == (True, 4, 4), check


def test_a_result_may_wait_in_the_outbox_and_be_published_meanwhile(engine):
    waiting = result(None, 60, 0, "fired")
    assert windows_check(engine, ROWS, [*RESULTS[:3], waiting]).ok
    for table in ("sales_by_window", "sales_by_product_window", "window_results"):
        engine.execute(f"DROP TABLE {table}")
    assert windows_check(engine, ROWS, [*RESULTS, waiting]).ok


def test_results_that_came_after_the_snapshot_are_no_difference(engine):
    later = [result(200, 60, 1, "fired"), result(201, 60, 1, "final"), result(202, 120, 0, "fired")]
    assert windows_check(engine, ROWS, [*RESULTS, *later]).ok


def test_results_of_a_former_warehouse_are_no_difference(engine):
    assert windows_check(engine, ROWS, [*RESULTS, result(9, 0, 7, "fired", OTHER)]).ok


@pytest.mark.parametrize(
    ("results", "changed", "words"),
    [
        (RESULTS[1:], "", "revision 0 state 'fired': missing"),
        (RESULTS[:2] + RESULTS[3:], "", "revision 1 state 'final': missing"),
        ([*RESULTS, result(4, 60, 0, "fired")], "", "sales.windows/0@3: was published 2 times"),
        ([*RESULTS, result(4, 120, 0, "fired")], "", "00:02:00Z id 1 revision 0 state 'fired': should not be there"),
        ([*RESULTS[:3], result(3, 60, 0, "fired", key="2")], "", "its key is not the id 1"),
        (RESULTS, "UPDATE window_results SET taxes = 11 WHERE state = 'final'", "taxes expected 0.10, found 0.11"),
        (RESULTS, "UPDATE window_results SET warehouse = NULL WHERE window_start > 0", "not from the outbox of any"),
    ],
)  # fmt: skip
def test_a_wrong_result_is_named(engine, results, changed, words):
    check = windows_check(engine, ROWS, results, changed)
    assert not check.ok
    assert any(words in e for e in check.examples), check


VISITS = f"{USUAL}; visit by product_id measures transactions session 10s"
#: Product 7: a sale at each of these seconds, so the session [0, 30). Revisions of the sessions that it had before.
SOLD = (0, 5, 12, 20)
BEFORE = [
    "(0, 0, 10, 0, 'fired', 1)", "(1, 12, 22, 0, 'fired', 1)", "(2, 12, 30, 1, 'fired', 2)",
    "(3, 0, 30, 1, 'fired', 4)", "(4, 12, 12, 2, 'merged', 0)", "(5, 0, 30, 1, 'final', 4)",
]  # fmt: skip


def sessions_check(engine: Engine, results: list[str], changed: str = ""):
    times = ", ".join(f"({t * S}, 7, false, 0)" for t in SOLD)
    engine.execute(f"""
        CREATE TABLE counted AS SELECT * FROM (VALUES {times}) t(event_time, product_id, duplicate, before);
        CREATE TABLE sales_by_visit_window AS
        SELECT {10 * S} AS window_size, 0 AS window_start, 7 AS product_id, {30 * S} AS window_end, 4 AS transactions,
               1 AS revision, 'final' AS state;
        CREATE TABLE window_results AS
        SELECT 0 AS partition, o AS "offset", '{MINE}' AS warehouse, '7'::BLOB AS key, 'visit' AS kind,
               {10 * S} AS window_size, s * {S} AS window_start, '7' AS id, r AS revision, state, e * {S} AS window_end,
               n AS transactions,
               {", ".join(f"NULL::BIGINT AS {m}" for m in (*COUNTS, *MONEY) if m != "transactions")}
        FROM (VALUES {", ".join(results)}) t(o, s, e, r, state, n)
    """)
    if changed:
        engine.execute(changed)
    return checks.window_results(engine, groupings(VISITS, ())[2:], LATENESS)


def test_a_session_that_became_part_of_another_one_was_taken_back(engine):
    check = sessions_check(engine, BEFORE)
    assert (check.ok, check.expected, check.actual) == (True, 6, 6), check


def test_an_open_session_that_was_published_before_keeps_its_earlier_revisions(engine):
    changed = "UPDATE sales_by_visit_window SET state = 'open', revision = 2"
    assert sessions_check(engine, BEFORE[:5], changed).ok


@pytest.mark.parametrize(
    ("results", "changed", "words"),
    [
        (BEFORE[:4] + BEFORE[5:], "", "00:00:12Z id 7 revision 0 state 'fired': should not be there"),
        (BEFORE[:1] + BEFORE[2:], "", "00:00:12Z id 7 revision 0 state 'fired': missing"),
        (BEFORE[1:], "", "00:00:00Z id 7 revision 0 state 'fired': missing"),
        (BEFORE, "UPDATE window_results SET transactions = 1 WHERE state = 'merged'", "expected 0, found 1"),
        (BEFORE, "UPDATE window_results SET window_end = 1 WHERE state = 'merged'", "window_end expected"),
        (BEFORE, f"DELETE FROM counted WHERE event_time = {12 * S}", "is merged, and not part of a longer session"),
        (BEFORE, f"DELETE FROM counted WHERE event_time = {5 * S}", "is merged, and not part of a longer session"),
        (
            BEFORE,
            f"INSERT INTO sales_by_visit_window SELECT * REPLACE ({12 * S} AS window_start) FROM sales_by_visit_window",
            "is merged, and has a row",
        ),
    ],
)  # fmt: skip
def test_a_wrong_result_of_a_session_is_named(engine, results, changed, words):
    check = sessions_check(engine, results, changed)
    assert not check.ok
    assert any(words in e for e in check.examples), check


def late(
    offset: int | None,
    source: int,
    headers: Mapping[str, bytes] | None = None,
    *,
    warehouse: str = MINE,
    body: bytes = b"sale",
) -> OutboxRecord:
    """A late sale on the topic. Its window [0, 60) ended with its lateness at 90; the watermark was at 95.25."""
    why = ("1m@1970-01-01T00:00:00.000000Z", "5.250000", "1970-01-01T00:01:35.250000Z")
    heads: dict[str, bytes | None] = dict(zip(LATE_HEADERS, (w.encode() for w in why), strict=True))
    heads |= {"clean.offset": b"3", "rules.version": b"abc", **(headers or {})}
    heads["source.offset"] = source.to_bytes(8, "big")
    heads["outbox.id"] = f"{warehouse}/1".encode()
    value = b"\0\0\0\0\1" + body

    class Published(OutboxRecord):
        def offset(self):
            return offset

    return Published(0, 7, b"1", value, list(heads.items()))


def late_check(engine: Engine, records: list[OutboxRecord]):
    engine.execute(f"""
        CREATE TABLE counted AS SELECT * FROM (VALUES
            (0, 4, {10 * S}, {95 * S + 250_000}, true), (0, 5, {61 * S}, {95 * S}, false))
            t(partition, "offset", event_time, before, too_late)
    """)
    engine.execute("""
        CREATE TABLE raw_sales AS SELECT * FROM (VALUES (0, 4, 7000, '1'::BLOB, 'sale'::BLOB, NULL::BLOB))
        t(partition, "offset", ts, key, body, headers)
    """)
    engine.execute("""
        CREATE TABLE first_sales AS SELECT 0 AS partition, 4 AS source_offset, 3 AS "offset", 'abc' AS rules_version
    """)
    LateTable(engine).take(records)
    return checks.late_sales(engine, sizes("1m"), LATENESS)


def test_a_late_sale_is_there_once_with_its_reasons(engine):
    check = late_check(engine, [late(0, 4), late(None, 4), late(1, 4, warehouse=OTHER), late(300, 5)])
    assert (check.ok, check.expected, check.actual) == (True, 1, 1), check


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "partition 0 source_offset 4: missing"),
        ([late(0, 4), late(1, 4)], "sales.late/0@0: was published 2 times"),
        ([late(0, 4), late(1, 5)], "partition 0 source_offset 5: should not be there"),
        ([late(0, 4, body=b"sole")], "body expected b'sale', found b'sole'"),
        ([late(0, 4, {"late.by_s": b"5.250001"})], "late_by_s expected '5.250000', found '5.250001'"),
        ([late(0, 4, {"clean.offset": b"4"})], "clean_offset expected 3, found 4"),
        ([late(0, 4, {"rules.version": b"x"})], "rules_version expected 'abc', found 'x'"),
        ([late(0, 4, {"nonsense": b"x"})], "headers expected nothing, found b\"[('nonsense', b'x')]\""),
        ([late(0, 4, {"late.windows": b"1m@x"})], "late_windows expected '1m@1970-01-01T00:00:00.000000Z'"),
    ],
)
def test_a_wrong_late_sale_is_named(engine, records, words):
    check = late_check(engine, records)
    assert not check.ok
    assert any(words in e for e in check.examples), check


def late_table(engine: Engine, changed: str = ""):
    """The late sale of :func:`late_check` as the warehouse has it: raw record 0/4."""
    late_check(engine, [late(0, 4)])
    engine.execute("""
        CREATE TABLE sales AS SELECT * FROM (VALUES (0, 4, 7, 10000000, 1, 2, 3, 1, 'cash', NULL, 1, 1, 0, 0, 7000),
                                                    (1, 4, 8, 10000000, 1, 2, 3, 1, 'cash', NULL, 1, 1, 0, 0, 7000))
        t(partition, "offset", transaction_id, event_time, store_id, customer_id, product_id, quantity, payment_method,
          extra, unit_cents, total_cents, discount_cents, tax_cents, ts);
        CREATE TABLE stored_before (partition BIGINT, source_offset BIGINT)
    """)
    engine.execute(f"""
        CREATE TABLE late_sales AS
        SELECT {OF_SALES}, '60000000' AS window_sizes, '0' AS window_starts, '5250000' AS late_by, 95250000 AS watermark
        FROM sales WHERE partition = 0
    """)
    if changed:
        engine.execute(changed)
    return checks.late_table(engine)


def test_a_late_sale_is_in_the_warehouse_once_with_the_windows_that_it_missed(engine):
    check = late_table(engine)
    assert (check.ok, check.expected, check.actual) == (True, 1, 1), check


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("DELETE FROM late_sales", "source_offset 4 nth 1: missing"),
        ("INSERT INTO late_sales FROM late_sales", "source_offset 4 nth 2: should not be there"),
        (
            "INSERT INTO late_sales SELECT * REPLACE (5 AS source_offset) FROM late_sales",
            "source_offset 5 nth 1: should",
        ),
        ("UPDATE late_sales SET total_amount = 2", "total_amount expected 0.01, found 0.02"),
        ("UPDATE late_sales SET published_at = 8000", "published_at expected 1970-01-01T00:00:00.007000Z"),
        ("UPDATE late_sales SET window_sizes = '1'", "window_sizes expected '60000000', found '1'"),
        ("UPDATE late_sales SET window_starts = '1'", "window_starts expected '0', found '1'"),
        ("UPDATE late_sales SET late_by = '1'", "late_by expected '5250000', found '1'"),
        ("UPDATE late_sales SET watermark = 1", "watermark expected 1970-01-01T00:01:35.250000Z"),
    ],
)
def test_a_late_sale_that_is_wrong_in_the_warehouse_is_named(engine, changed, words):
    check = late_table(engine, changed)
    assert not check.ok
    assert any(words in e for e in check.examples), check


def test_late_sales_of_an_earlier_release_are_on_the_topic_only(engine):
    assert late_table(engine, "INSERT INTO stored_before VALUES (0, 4); DELETE FROM late_sales").ok
    engine.execute("UPDATE stored_before SET source_offset = 3")
    assert not checks.late_table(engine).ok


def test_of_hopping_windows_the_missed_ones_are_listed_shortest_and_oldest_first(engine):
    late_check(engine, [])
    checks.late_sales(engine, sizes("2m/1m,1m"), LATENESS)
    assert engine.execute("SELECT late_windows, late_by_s FROM expected_late_results").fetchall() == [
        ("1m@1970-01-01T00:00:00.000000Z,2m@1969-12-31T23:59:00.000000Z", "5.250000,5.250000")
    ]


def test_records_of_sales_windows_become_rows(engine):
    schema = topics.topic("sales.windows").schema()
    moment = datetime(2026, 3, 1, 8, tzinfo=UTC)
    money = dict(zip(MONEY, map(Decimal, ("12.34", "0.00", "-0.01", "130.00", "-99999999.99")), strict=True))
    window = {
        "kind": "store", "window_size": "5m", "window_start": moment, "store_id": 7, "product_id": None,
        "window_end": moment + timedelta(minutes=5), "transactions": 3, "units_sold": 4, "units_returned": 0, **money,
        "revision": 2, "state": "fired", "updated_at": moment,
    }  # fmt: skip
    other = {**window, "kind": "product", "store_id": None, "product_id": 9}
    bodies = []
    for record in (window, other):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
        bodies.append(out.getvalue())
    values = [b"\0\0\0\0\1" + body for body in (*bodies, bodies[0][:-1])]
    owner = [("outbox.id", f"{MINE}/5".encode())]
    table = WindowTable(engine, Decoder(schema, {1: schema}))
    table.take([OutboxRecord(1, 0, b"7", value, owner) for value in (*values, None)])
    rows = engine.execute("SELECT * FROM window_results ORDER BY id NULLS LAST, kind").fetchall()
    start = int(moment.timestamp()) * S
    place, sums = (1, None, MINE, 5, None, b"7"), (3, 4, 0, 1234, 0, -1, 13000, -9999999999)
    assert rows == [
        (*place, "store", 300 * S, start, "7", 2, "fired", start + 300 * S, start, *sums),
        (*place, "product", 300 * S, start, "9", 2, "fired", start + 300 * S, start, *sums),
        *[(*place, *[None] * 16)] * 2,
    ]
