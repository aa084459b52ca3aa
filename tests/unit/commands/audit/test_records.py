"""Messages as frames, whatever they are."""

import pytest
from confluent_kafka import Message

from commands.audit.records import clean_frame, dead_frame

FAR = 2**62
CREATED = 1


@pytest.mark.parametrize("frame", [clean_frame, dead_frame])
@pytest.mark.parametrize(
    ("milliseconds", "microseconds"),
    [(-1, -1000), (1_700_000_000_001, 1_700_000_000_001_000), (-FAR, -FAR), (FAR, FAR)],
)
def test_a_timestamp_that_has_no_microseconds_is_as_far_away_as_can_be(frame, milliseconds, microseconds):
    message = Message(topic="sales.dlq", partition=0, offset=1, value=b"x", timestamp=(CREATED, milliseconds))
    assert frame([message])["ts"].to_list() == [microseconds]
