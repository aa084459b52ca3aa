"""DLQ_MAX_RATIO over the last 10,000 records."""

from retail_stream.entities import Entity
from retail_stream.errors import TooManyRejects
from services.cleaner.rejects import WINDOW, RejectRatio


def test_nothing_is_said_before_ten_thousand_records_were_seen():
    ratio = RejectRatio(Entity.SALES, 0.5)
    assert ratio.observe([True] * (WINDOW - 1)) is None
    assert isinstance(ratio.observe([True]), TooManyRejects)


def test_exactly_the_allowed_share_is_allowed():
    ratio = RejectRatio(Entity.SALES, 0.5)
    assert ratio.observe([True, False] * (WINDOW // 2)) is None
    assert "50%" in str(ratio.observe([True, True]))


def test_old_rejects_are_forgotten():
    ratio = RejectRatio(Entity.SALES, 0.1)
    ratio.observe([True] * 900 + [False] * 9_100)
    assert ratio.observe([False] * 900) is None
    assert ratio.observe([True] * 1000) is None


def test_a_ratio_of_one_never_stops():
    assert RejectRatio(Entity.SALES, 1).observe([True] * 3 * WINDOW) is None
