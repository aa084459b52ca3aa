"""The headers of a dead letter."""

from pydoc import locate

from retail_stream.dead_letters import Header, headers
from retail_stream.errors import Rejected, Stage


def test_a_dead_letter_says_where_the_record_was_and_why_it_was_rejected() -> None:
    rejected = Rejected(("key_matches", "time_in_range"), Stage.TRANSFORMATION, "it breaks both")
    found = dict(headers("sales.raw", 2, 17, rejected, "v1"))
    exception = found.pop(Header.EXCEPTION)
    assert found == {
        "__connect.errors.topic": b"sales.raw",
        "__connect.errors.partition": b"2",
        "__connect.errors.offset": b"17",
        "__connect.errors.stage": b"TRANSFORMATION",
        "__connect.errors.exception.message": b"it breaks both",
        "rules": b"key_matches,time_in_range",
        "rules.version": b"v1",
    }
    assert exception == b"retail_stream.errors.Rejected"
    assert locate(exception.decode()) is Rejected
