"""What is asked of Kafka has an end, whatever the client does."""

from concurrent.futures import Future

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo

from retail_stream.errors import Unavailable
from retail_stream.kafka import offsets
from retail_stream.kafka.offsets import latest_offsets
from retail_stream.settings import Connections

CONNECTIONS = Connections(
    kafka_bootstrap_servers="127.0.0.1:1",
    schema_registry_url="http://127.0.0.1:1",
    database_url="postgresql://127.0.0.1:1/none",
)


class NeverAnswers:
    """A client whose answers never come, not even that nothing came in time."""

    def list_offsets(self, wanted, **_):
        return {place: Future() for place in wanted}


@pytest.mark.timeout(20)
def test_offsets_that_the_client_never_tells_are_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_GRACE_S", 0.05)
    with pytest.raises(Unavailable):
        latest_offsets(CONNECTIONS, NeverAnswers(), [("sales.raw", 0)], within_s=0.05)  # type: ignore[arg-type]


class HeardOfAllLeadersButOne:
    """What librdkafka 2.16 answers after its time limit while a partition's leader is dead: no error, and no offset."""

    def list_offsets(self, wanted, **_):
        answers: dict[TopicPartition, Future[ListOffsetsResultInfo]] = {place: Future() for place in wanted}
        for place, answer in answers.items():
            answer.set_result(ListOffsetsResultInfo(OFFSET_INVALID if place.partition == 2 else 7, -1, -1))
        return answers


def test_an_offset_that_is_none_is_a_broker_that_does_not_answer() -> None:
    client = HeardOfAllLeadersButOne()
    assert latest_offsets(CONNECTIONS, client, [("sales.raw", 1)]) == {("sales.raw", 1): 7}  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        latest_offsets(CONNECTIONS, client, [("sales.raw", p) for p in range(4)])  # type: ignore[arg-type]
