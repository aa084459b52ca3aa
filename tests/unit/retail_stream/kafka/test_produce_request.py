"""Our encoder of a Produce request against aiokafka's."""

import pytest
from aiokafka.protocol.produce import ProduceRequest

from retail_stream.kafka.produce_request import OneBatchRequest

ARGUMENTS = -1, 10_000, "sales.clean-é", 3, bytes(range(256)) * 10


@pytest.mark.parametrize("newest", [3, 5, 7, 12])
def test_the_bytes_are_those_of_aiokafka(newest: int) -> None:
    acks, timeout_ms, topic, partition, batch = ARGUMENTS
    theirs = ProduceRequest(None, acks, timeout_ms, [(topic, [(partition, batch)])])
    versions = {0: (0, newest)}
    ours, expected = OneBatchRequest(*ARGUMENTS).prepare(versions), theirs.prepare({0: (0, 7 if newest >= 7 else 3)})
    assert ours.encode() == expected.encode()
    assert (ours.API_KEY, ours.API_VERSION) == (expected.API_KEY, expected.API_VERSION)
    assert ours.RESPONSE_TYPE is expected.RESPONSE_TYPE
