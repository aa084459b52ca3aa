"""`window_revisions` beside `sales.windows`, as `verify` compares them."""

import pytest

from commands.audit.engine import Engine, connect
from commands.audit.windows import COUNTS, MONEY
from commands.verify.stored import stored_revision_check

SUMS = ", ".join(f"{n} AS {m}" for n, m in enumerate((*COUNTS, *MONEY)))
KEY = "kind, window_size, window_start, id, revision, window_end"


@pytest.fixture
def engine(tmp_path) -> Engine:
    """Revisions 0 and 1 of a store, of the seconds 100 and 200; one that came after the snapshot; no final ones."""
    engine = connect(tmp_path)
    engine.execute(f"""
        CREATE TABLE first_window_results AS SELECT *, {SUMS} FROM (VALUES
            ('store', 5, 10, 7::BIGINT, 0::BIGINT, 15, 'fired', 100, true),
            ('store', 5, 10, 7, 1, 15, 'fired', 200, true), ('store', 5, 10, 7, 1, 15, 'final', 250, true),
            ('store', 5, 20, 7, 0, 25, 'fired', 300, false)) t({KEY}, state, updated_at, early)
    """)
    engine.execute(f"""
        CREATE TABLE window_revisions AS SELECT *, {SUMS} FROM (VALUES
            ('store', 5, 10, '7', 0::BIGINT, 15, 100), ('store', 5, 10, '7', 1, 15, 200)) t({KEY}, published_at)
    """)
    engine.execute("CREATE TABLE revisions_since (since BIGINT)")
    return engine


def test_a_row_for_each_firing_and_revision_before_the_snapshot(engine):
    check = stored_revision_check(engine)
    assert (check.ok, check.expected, check.actual) == (True, 2, 2), check


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE window_revisions SET taxes = taxes + 1 WHERE revision = 1", "taxes expected"),
        ("UPDATE window_revisions SET published_at = 101 WHERE revision = 0", "published_at expected"),
        ("DELETE FROM window_revisions WHERE revision = 0", "revision 0: missing"),
        ("UPDATE window_revisions SET id = '8' WHERE revision = 0", "id '8' revision 0: should not be there"),
    ],
)
def test_a_wrong_row_is_named(engine, damage, words):
    engine.execute(damage)
    check = stored_revision_check(engine)
    assert not check.ok
    assert any(words in example for example in check.examples), check


def test_revisions_of_an_earlier_release_are_not_expected(engine):
    engine.execute("DELETE FROM window_revisions WHERE revision = 0; INSERT INTO revisions_since VALUES (150)")
    assert stored_revision_check(engine).ok
    engine.execute("DELETE FROM window_revisions")
    assert not stored_revision_check(engine).ok
