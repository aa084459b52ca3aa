"""What is asked of Kafka has an end, whatever the client does."""

from concurrent.futures import Future

import pytest

from retail_stream import kafka
from retail_stream.errors import Unavailable
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
    monkeypatch.setattr(kafka, "_ANSWER_S", 0.05)
    monkeypatch.setattr(kafka, "_GRACE_S", 0.05)
    with pytest.raises(Unavailable):
        kafka.latest(CONNECTIONS, NeverAnswers(), [("sales.raw", 0)])  # type: ignore[arg-type]
