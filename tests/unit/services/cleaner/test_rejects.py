"""DLQ_MAX_RATIO over the last 10,000 records."""

from retail_stream.entities import Entity
from retail_stream.errors import TooManyRejects
from services.cleaner.rejects import WINDOW, RejectRatio


def test_nothing_is_said_before_ten_thousand_records_were_seen():
    ratio = RejectRatio(Entity.SALES, 0.5)
    assert ratio.observe(WINDOW - 1, range(WINDOW - 1)) is None
    assert isinstance(ratio.observe(1, [0]), TooManyRejects)


def test_exactly_the_allowed_share_is_allowed():
    ratio = RejectRatio(Entity.SALES, 0.5)
    assert ratio.observe(WINDOW, range(0, WINDOW, 2)) is None
    # The two oldest of the window, one of them rejected, make room for two rejected ones.
    assert "50%" in str(ratio.observe(2, [1, 0]))


def test_old_rejects_are_forgotten():
    ratio = RejectRatio(Entity.SALES, 0.1)
    ratio.observe(WINDOW, range(900))
    assert ratio.observe(900, []) is None
    assert ratio.observe(1000, range(1000)) is None


def test_a_batch_larger_than_the_window_counts_by_its_last_records():
    assert RejectRatio(Entity.SALES, 0.1).observe(3 * WINDOW, range(2 * WINDOW)) is None
    assert RejectRatio(Entity.SALES, 0.1).observe(3 * WINDOW, range(2 * WINDOW, 3 * WINDOW)) is not None


def test_a_ratio_of_one_never_stops():
    assert RejectRatio(Entity.SALES, 1).observe(3 * WINDOW, range(3 * WINDOW)) is None
