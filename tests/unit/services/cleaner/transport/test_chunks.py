"""What one call of the consumer brought, as chunks: every record once, in order, errors not mistaken for one."""

from itertools import pairwise

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from hypothesis import given
from hypothesis import strategies as st

from services.cleaner.transport.chunks import split


def record(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=b"")


def event(code: int, partition: int = 0, offset: int = 0, **traits: bool) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(code, **traits))


@st.composite
def fetches(draw: st.DrawFn) -> list[Message]:
    """Partitions interleaved at will; offsets ascend with gaps; an end of partition anywhere after its records."""
    at = [0, 0, 0]
    messages = []
    for partition, gap, is_end in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.booleans()))):
        at[partition] += gap
        if is_end:
            messages.append(event(KafkaError._PARTITION_EOF, partition, at[partition]))
        else:
            messages.append(record(partition, at[partition]))
            at[partition] += 1
    return messages


@given(fetches())
def test_every_record_is_in_one_chunk_of_its_partition_in_the_order_it_came(messages: list[Message]):
    fetched = split(messages)
    records = [m for m in messages if m.error() is None]
    assert [c.partition for c in fetched.chunks] == list(dict.fromkeys(m.partition() for m in records))
    for chunk in fetched.chunks:
        assert chunk.records == [m for m in records if m.partition() == chunk.partition]
        offsets = [m.offset() for m in chunk.records]
        assert (chunk.first_offset, chunk.next_offset) == (offsets[0], offsets[-1] + 1)
        assert all(a < b for a, b in pairwise(offsets))
    assert fetched.ends == {m.partition(): m.offset() for m in messages if m.error() is not None}


def test_an_error_that_the_client_mends_by_itself_is_no_record_and_no_end():
    fetched = split([record(0, 7), event(KafkaError._TRANSPORT, retriable=True), record(0, 8)])
    assert [(c.first_offset, c.next_offset, len(c)) for c in fetched.chunks] == [(7, 9, 2)]
    assert fetched.ends == {}


@pytest.mark.parametrize("traits", [{}, {"fatal": True, "retriable": True}])
def test_an_error_that_it_does_not_mend_is_raised(traits: dict[str, bool]):
    with pytest.raises(KafkaException):
        split([record(0, 7), event(KafkaError.TOPIC_AUTHORIZATION_FAILED, **traits)])
