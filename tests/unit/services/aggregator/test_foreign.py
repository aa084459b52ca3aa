"""Records on the result topics that are not ours, and waits that hear that the program is to stop."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeVar

import pytest
from confluent_kafka import Message

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.errors import Unavailable
from retail_stream.topics import Result
from retail_stream.waiting import Stopped, wait_for
from services.aggregator import outbox, ownership
from services.aggregator.relay import number_of
from services.aggregator.watermark import Rise

T = TypeVar("T")
RISES = outbox.schemas()[Result.WATERMARKS]


@pytest.mark.parametrize(
    ("header", "number"),
    [
        (b"mine/12", 12),
        (b"yours/12", 0),
        (None, 0),
        (b"\xff/1", 0),
        (b"mine/x", 0),
        (b"mine/", 0),
        (b"mine", 0),
        (b"mine/-1", 0),
        (b"mine/" + b"9" * 5000, 0),
    ],
)
def test_a_record_whose_outbox_id_is_not_of_this_warehouse_counts_for_nothing(
    header: bytes | None, number: int
) -> None:
    assert number_of(Message(topic="sales.late", headers=[("outbox.id", header)]), "mine") == number
    assert number_of(Message(topic="sales.late"), "mine") == 0


def test_a_record_on_the_watermarks_topic_that_is_no_rise_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    rise = encode(RISES, {"partition": 2, "next_offset": 7, "watermark": 5})
    values = [
        None,
        b"",
        b"text",
        frame(9, b"of a schema that nobody registered"),
        frame(1, rise + b"x"),
        frame(1, rise),
    ]
    messages = [Message(topic="sales.watermarks", partition=0, offset=i, value=v) for i, v in enumerate(values)]
    monkeypatch.setattr(ownership, "read_to_end", lambda *_: iter(messages))
    writers = SimpleNamespace(get=lambda _: {1: RecordSchema(RISES)})
    assert ownership.recorded_rises(None, writers) == [Rise(2, 7, 5)]  # type: ignore[arg-type]


def test_a_stop_ends_the_wait_for_a_registry() -> None:
    stop = threading.Event()

    def away(*_: object) -> dict:
        stop.set()
        raise Unavailable("The schema registry does not answer.")

    def wait(action: Callable[[], T]) -> T:
        return wait_for(action, stop=stop)

    with pytest.raises(Stopped):
        SubjectSchemas(SimpleNamespace(versions=away), "sales.clean-value", wait).get([7])  # type: ignore[arg-type]
