"""Keys and times of records as rules see them."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from retail_stream.entities import Entity
from services.cleaner.context import tombstones
from tests.harness.examples import Raw

KEYS = (
    st.none() | st.binary(max_size=20) | st.text(max_size=16).map(str.encode) | st.integers().map(lambda n: b"%d" % n)
)


def text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def is_int32(key: str | None) -> bool:
    try:
        return key is not None and str(int(key)) == key and -(2**31) <= int(key) < 2**31
    except ValueError:
        return False


@settings(deadline=None, max_examples=200)
@given(st.lists(KEYS, min_size=1, max_size=8))
@example([b"1234", b"12345", b"123456789012", b"1234567890123", b"", None])
@example([b"1234567890123", b"\xff"])
def test_keys_are_the_text_that_they_hold_or_null(keys: list[bytes | None]):
    n = len(keys)
    raw = Raw(Entity.STORES, [None] * n, keys, [1] * n)
    columns = raw.columns()
    table = tombstones(columns, columns.offset)
    assert table["key"].to_list() == [text(key) for key in keys]
    for key, number in zip(keys, table["id"], strict=True):
        if is_int32(text(key)):
            assert number == int(key or b"")
        else:
            assert number is None or str(number) != text(key)


def test_a_delete_happened_when_its_header_says_or_when_it_was_published():
    times = [(b"\0" * 7 + b"\5",), (), (b"soon",), (None,), (b"x", b"\xff" * 8)]
    headers = {i: tuple((b"sequence.time", value) for value in row) for i, row in enumerate(times)}
    columns = Raw(Entity.STORES, [None] * 5, [b"1"] * 5, [7, 8, 9, 10, 11], headers).columns()
    table = tombstones(columns, columns.offset)
    assert table["sequence_time"].to_list() == [5, 8000, 9000, 10000, -1]
    assert table["sequence_time_valid"].to_list() == [True, True, False, False, True]
