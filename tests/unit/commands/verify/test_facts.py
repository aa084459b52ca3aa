"""Facts, references, enriched sales and watermarks as `verify` compares them, on tables of a few rows."""

import pytest

from commands.audit.engine import Engine, connect
from commands.verify import facts, watermarks
from retail_stream.entities import DIMENSIONS, FIELDS

SALE = 'partition, "offset", nth, transaction_id, event_time, store_id, customer_id, product_id, quantity,'
SALE += " payment_method, extra, unit_cents, total_cents, discount_cents, tax_cents, ts"


def sale(offset: int, transaction: int, nth: int = 1, partition: int = 0, quantity: int = 1, at: int = 50) -> str:
    place = f"{partition}, {offset}, {nth}"
    return f"({place}, {transaction}, {at}, 1, 2, 3, {quantity}, 'cash', '{{\"a\": 1}}', 100, 100, 5, 10, 1000)"


@pytest.fixture
def engine(tmp_path) -> Engine:
    return connect(tmp_path)


def load(engine: Engine, *sales: str) -> None:
    engine.execute(f"CREATE TABLE sales AS SELECT * FROM (VALUES {', '.join(sales)}) t({SALE})")
    engine.execute("""
        CREATE TABLE fact_sales AS
        SELECT * EXCLUDE (nth)
            RENAME (unit_cents AS unit_price, total_cents AS total_amount, discount_cents AS discount_applied,
                    tax_cents AS tax_amount, ts AS published_at, partition AS source_partition,
                    "offset" AS source_offset)
        FROM sales WHERE nth = 1 AND partition = 0
    """)
    engine.execute("CREATE TABLE stored_before (partition BIGINT, source_offset BIGINT)")


def test_a_fact_is_the_first_of_its_identity(engine):
    load(engine, sale(0, 7), sale(1, 7, nth=2, quantity=9), sale(2, 8))
    check = facts.fact_check(engine)
    assert (check.ok, check.expected, check.actual) == (True, 2, 2), check


def test_where_two_partitions_have_one_identity_either_may_be_the_fact(engine):
    load(engine, sale(0, 7, quantity=9), sale(0, 7, partition=1))
    assert facts.fact_check(engine).ok
    engine.execute("UPDATE fact_sales SET quantity = 1, source_partition = 1")
    assert facts.fact_check(engine).ok
    engine.execute("UPDATE fact_sales SET source_partition = 0")
    assert not facts.fact_check(engine).ok
    engine.execute("UPDATE fact_sales SET quantity = 2")
    assert not facts.fact_check(engine).ok


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE fact_sales SET tax_amount = 11", "tax_amount expected 0.10, found 0.11"),
        ("UPDATE fact_sales SET published_at = 2000", "published_at expected 1970-01-01T00:00:00.001000Z, found 1970"),
        (
            "UPDATE fact_sales SET published_at = NULL",
            "published_at expected 1970-01-01T00:00:00.001000Z, found nothing",
        ),
        ("UPDATE fact_sales SET source_partition = 3", "source_partition expected 0, found 3"),
        ("UPDATE fact_sales SET source_offset = 1", "source_offset expected 0, found 1"),
        ("DELETE FROM fact_sales", "transaction_id 7 event_time 1970-01-01T00:00:00.000050Z store_id 1: missing"),
        ("UPDATE fact_sales SET transaction_id = 9", "transaction_id 9"),
    ],
)
def test_a_changed_fact_is_named(engine, damage, words):
    load(engine, sale(0, 7))
    assert facts.fact_check(engine).ok
    engine.execute(damage)
    check = facts.fact_check(engine)
    assert not check.ok
    assert any(words in e for e in check.examples), check


UNNAMED = "UPDATE fact_sales SET published_at = NULL, source_partition = NULL, source_offset = NULL"


def test_a_fact_of_an_earlier_release_need_not_name_its_record(engine):
    load(engine, sale(5, 7), sale(6, 8))
    engine.execute(f"{UNNAMED} WHERE source_offset = 5")
    engine.execute("INSERT INTO stored_before VALUES (0, 5)")
    assert facts.fact_check(engine).ok
    engine.execute(UNNAMED)
    check = facts.fact_check(engine)
    assert (check.ok, check.differ) == (False, 1), check
    engine.execute("UPDATE fact_sales SET published_at = 1")
    assert facts.fact_check(engine).differ == 2


def dimensions(engine: Engine) -> None:
    """Each dimension's ids have versions [10, 20) as 1, [20, 40) as 2, and after a gap [60, …) as 3."""
    for e, number in zip(DIMENSIONS, (2, 3, 1), strict=True):
        engine.execute(f"""
            CREATE TABLE dim_{e} AS SELECT {number} AS {FIELDS[e].key}, * FROM (VALUES
                (1, 10, 20), (2, 20, 40), (3, 60, NULL)) t(sk, valid_from, valid_to)
        """)


@pytest.mark.parametrize(
    ("at", "version"), [(5, 1), (10, 1), (19, 1), (20, 2), (39, 2), (40, None), (59, None), (60, 3), (999, 3)]
)
def test_a_fact_is_joined_to_the_version_at_its_time_or_the_first(engine, at, version):
    #  ·····|──1──|───2───|·······|──3───▶
    #       10    20      40      60
    load(engine, sale(0, 7, at=at))
    dimensions(engine)
    sk = "NULL::INT" if version is None else version
    engine.execute(f"""
        CREATE TABLE sales_enriched AS SELECT transaction_id, event_time, store_id, NULL::VARCHAR AS odd,
            {sk} AS customer_sk, {sk} AS product_sk, {sk} AS store_sk FROM fact_sales
    """)
    assert facts.enriched_check(engine).ok
    engine.execute("UPDATE sales_enriched SET product_sk = 99")
    assert "product_sk expected" in facts.enriched_check(engine).examples[0]
    engine.execute("DELETE FROM sales_enriched")
    assert not facts.enriched_check(engine).ok


def test_a_sale_of_an_unknown_customer_is_counted(engine):
    load(engine, sale(0, 7))
    for e, number in zip(DIMENSIONS, (2, 3, 1), strict=True):
        engine.execute(f'CREATE TABLE raw_{e} AS SELECT {number} AS {FIELDS[e].key}, 0 AS partition, 0 AS "offset"')
        engine.execute(f'CREATE TABLE places_{e} AS SELECT 0 AS partition, 0 AS "offset", true AS good')
    assert facts.reference_check(engine).ok
    engine.execute("UPDATE places_customers SET good = false")
    check = facts.reference_check(engine)
    assert (check.ok, check.actual) == (False, 1)
    assert check.examples == ("transaction_id 7: customer_id 2 is in no customers record",)


def marks(engine: Engine, stored: str, rises: str = "(9, 0, 0, false)", idle: str = "false") -> None:
    load(engine, sale(0, 7, at=50), sale(1, 8, at=40), sale(2, 9, at=2000))
    engine.execute("CREATE TABLE positions AS SELECT 'aggregator' AS consumer_group, 0 AS partition, 3 AS next_offset")
    engine.execute(
        f"CREATE TABLE rises AS SELECT * FROM (VALUES {rises}) t(partition, next_offset, watermark, waiting)"
    )
    engine.execute(f"CREATE TABLE partition_watermarks AS SELECT 0 AS partition, {stored} AS watermark, {idle} AS idle")


# The timestamps of the records are 1000 and hold the last sale back; the delay is 10.
@pytest.mark.parametrize(("stored", "ok"), [("990", True), ("989", False), ("1990", False), ("NULL::BIGINT", False)])
def test_a_partitions_watermark_is_recomputed(engine, stored, ok):
    marks(engine, stored)
    assert watermarks.partition_check(engine, 10).ok is ok


@pytest.mark.parametrize(
    ("rise", "stored", "ok"),
    [
        ("(0, 2, 1500, false)", 1500, True),
        ("(0, 2, 1500, false)", 990, False),
        ("(0, 3, 1500, true)", 1500, True),
        ("(0, 3, 1500, true)", 990, False),
        ("(0, 3, 1500, false)", 1500, True),  # recorded before the snapshot,
        ("(0, 3, 1500, false)", 990, True),  # or after it
        ("(0, 4, 1500, false)", 1500, False),
    ],
)
def test_a_rise_counts_up_to_the_aggregators_position(engine, rise, stored, ok):
    marks(engine, str(stored), rise)
    assert watermarks.partition_check(engine, 10).ok is ok
