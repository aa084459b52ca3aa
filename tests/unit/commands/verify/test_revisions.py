"""Results of windows that later ones replaced: which sums they may have."""

import pytest

from commands.audit.engine import Engine, connect
from commands.audit.windows import USUAL, groupings
from commands.verify.revisions import revision_check

S = 1_000_000
#: Store 1 sells in the window [0, 60): (partition, offset, quantity, cents, before).
SALES = [(0, 1, 1, 100), (0, 2, 2, 200), (0, 3, -1, -50), (1, 1, 5, 1000)]


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    rows = ", ".join(f"({p}, {o}, {q}, {cents}, 10, 1, 1, 7, {5 * S}, NULL, false)" for p, o, q, cents in SALES)
    engine.execute(f"""
        CREATE TABLE counted AS SELECT * FROM (VALUES {rows}) t(partition, "offset", quantity, total_cents, tax_cents,
            discount_cents, store_id, product_id, event_time, before, duplicate)
    """)
    engine.execute(f"""
        CREATE TABLE expected_window_results AS
        SELECT 'store' AS kind, {60 * S} AS window_size, 0 AS window_start, '1' AS id, {60 * S} AS window_end, 2 AS last
    """)
    return engine


def result(
    revision: int, number: int, sold: int, returned: int, gross: int, returns: int, net: int | None = None
) -> str:
    net = gross - returns - number if net is None else net
    sums = f"{number}, {sold}, {returned}, {gross}, {returns}, {number}, {10 * number}, {net}"
    return f"('store', {60 * S}, 0, '1', {revision}, 'fired', {60 * S}, {sums})"


LAST = result(2, 4, 8, 1, 1300, 50)


def checked(engine: Engine, *results: str):
    names = "transactions, units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, net_sales"
    engine.execute(f"""
        CREATE TABLE first_window_results AS SELECT * FROM (VALUES {", ".join([*results, LAST])})
        t(kind, window_size, window_start, id, revision, state, window_end, {names})
    """)
    return revision_check(engine, groupings(USUAL, ()), 30 * S)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (result(0, 1, 1, 0, 100, 0), result(1, 2, 3, 0, 300, 0)),  # of partition 0 only
        (result(0, 1, 5, 0, 1000, 0), result(1, 2, 6, 0, 1100, 0)),  # partition 1 came first
        (result(0, 3, 3, 1, 300, 50), result(1, 3, 3, 1, 300, 50)),
    ],
)
def test_a_revision_has_the_first_sales_of_each_partition(engine: Engine, first: str, second: str) -> None:
    check = checked(engine, first, second)
    assert (check.ok, check.expected, check.note) == (True, 2, "")


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (result(0, 1, 2, 0, 200, 0), "revision 0: these are not the sums of the first sales"),  # not the first one
        (result(0, 1, 1, 0, 101, 0), "revision 0: these are not the sums of the first sales"),
        (result(0, 1, 1, 0, 100, 0, net=100), "revision 0: net_sales expected 99 cents, found 100"),
        (result(0, 3, 3, 1, 300, 50), "revision 0: counts more than revision 1"),
        (result(0, 1, 1, 0, 100, 0).replace(f"'fired', {60 * S}", f"'fired', {61 * S}"), "revision 0: window_end"),
    ],
)
def test_other_sums_are_named(engine: Engine, first: str, words: str) -> None:
    check = checked(engine, first, result(1, 2, 3, 0, 300, 0))
    assert not check.ok
    assert any(words in example for example in check.examples), check


def test_a_window_that_was_not_revised_has_nothing_to_compare(engine: Engine) -> None:
    engine.execute("UPDATE expected_window_results SET last = 0")
    check = checked(engine)
    assert (check.ok, check.expected, check.note) == (True, 0, "no window was revised")


VISITS = f"{USUAL}; visit by product_id session 10s"
#: Product 7 in partition 0: (second, cents). In the order of offsets.
SOLD = ((0, 100), (8, 200), (30, 1000), (17, 400))


def visit(start: int, end: int, revision: int, number: int, gross: int, state: str = "fired") -> str:
    sums = f"{number}, {number}, 0, {gross}, 0, {number}, {10 * number}, {gross - number}"
    return f"('visit', {10 * S}, {start * S}, '7', {revision}, '{state}', {end * S}, {sums})"


def sessions_checked(tmp_path, *results: str):
    engine = connect(tmp_path)
    rows = ", ".join(f"(0, {o}, 1, {cents}, 10, 1, 1, 7, {t * S}, NULL, false)" for o, (t, cents) in enumerate(SOLD))
    engine.execute(f"""
        CREATE TABLE counted AS SELECT * FROM (VALUES {rows}) t(partition, "offset", quantity, total_cents, tax_cents,
            discount_cents, store_id, product_id, event_time, before, duplicate);
        CREATE TABLE expected_window_results AS
        SELECT 'visit' AS kind, {10 * S} AS window_size, 0 AS window_start, '7' AS id, {27 * S} AS window_end,
               3 AS last
    """)
    names = "transactions, units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, net_sales"
    engine.execute(f"""
        CREATE TABLE first_window_results AS SELECT * FROM (VALUES {", ".join([*results, visit(0, 27, 3, 3, 700)])})
        t(kind, window_size, window_start, id, revision, state, window_end, {names})
    """)
    return revision_check(engine, groupings(VISITS, ()), 30 * S)


def test_a_revision_of_a_session_has_the_sales_between_its_first_and_its_last(tmp_path) -> None:
    check = sessions_checked(tmp_path, visit(0, 10, 0, 1, 100), visit(0, 18, 1, 2, 300), visit(0, 18, 2, 2, 300))
    assert (check.ok, check.expected) == (True, 3), check


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        (visit(0, 18, 1, 1, 200), "revision 1: these are not the sums of the first sales"),
        (visit(0, 27, 1, 2, 500), "revision 1: these are not the sums of the first sales"),  # the last before another
        (visit(0, 19, 1, 2, 300), "revision 1: no sale in time is at its begin, or the gap before its end"),
        (visit(0, 40, 1, 2, 300), "revision 1: ends later than revision 2"),
    ],
)
def test_other_sums_of_a_session_are_named(tmp_path, revision: str, words: str) -> None:
    check = sessions_checked(tmp_path, visit(0, 10, 0, 1, 100), revision, visit(0, 27, 2, 3, 700))
    assert not check.ok
    assert any(words in example for example in check.examples), check
