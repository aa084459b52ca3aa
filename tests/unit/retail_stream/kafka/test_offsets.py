"""Requests for offsets end, whatever the client does."""

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID
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
    """A client whose requests get neither an answer nor a timeout."""

    def list_offsets(self, wanted, **_):
        return {tp: Future() for tp in wanted}


@pytest.mark.timeout(20)
def test_offsets_that_never_come_are_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "GRACE_S", 0.05)
    with pytest.raises(Unavailable):
        latest_offsets(CONNECTIONS, NeverAnswers(), [("sales.raw", 0)], within_s=0.05)  # type: ignore[arg-type]


class OneLeaderIsDead:
    """librdkafka 2.16 after its time limit while the leader of a partition is dead: no error, and an invalid offset."""

    def list_offsets(self, wanted, **_):
        answers: dict[Any, Future[Any]] = {tp: Future() for tp in wanted}
        for tp, answer in answers.items():
            answer.set_result(ListOffsetsResultInfo(OFFSET_INVALID if tp.partition == 2 else 7, -1, -1))
        return answers


def test_an_invalid_offset_is_a_broker_that_does_not_answer() -> None:
    client = OneLeaderIsDead()
    assert latest_offsets(CONNECTIONS, client, [("sales.raw", 1)]) == {("sales.raw", 1): 7}  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        latest_offsets(CONNECTIONS, client, [("sales.raw", p) for p in range(4)])  # type: ignore[arg-type]
