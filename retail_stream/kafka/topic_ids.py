"""The ids that brokers give to topics: a topic that is deleted and made again has the same name and another id."""

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from retail_stream.errors import Unavailable
from retail_stream.kafka.clients import ANSWER_S, GRACE_S, admin, unavailable
from retail_stream.settings import Connections


def topic_ids(connections: Connections, names: Iterable[str]) -> Mapping[str, str]:
    """The id of each topic, in Kafka's spelling (22 characters).

    Raises:
        Unavailable: no broker answers, or a topic is not there.
    """
    # Kept until the answers are there: a client that is collected gives its requests up.
    client = admin(connections)
    asked = client.describe_topics(TopicCollection(sorted(names)), request_timeout=ANSWER_S)
    ids = {}
    for name, future in asked.items():
        try:
            ids[name] = str(future.result(ANSWER_S + GRACE_S).topic_id)
        except KafkaException as e:
            if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable(f"Kafka has no topic {name}; `retail-stream init` creates it.") from e
            raise unavailable(connections, e) from e
        except TimeoutError as e:
            raise unavailable(connections, e) from e
    return ids
