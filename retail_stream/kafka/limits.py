"""How large a batch a topic takes."""

from collections.abc import Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from retail_stream.errors import Unavailable

_ANSWER_S = 10.0


def largest_batches(admin: AdminClient, topics: Sequence[str]) -> dict[str, int]:
    """`max.message.bytes` of each topic, in bytes after compression, the broker's default included.

    Raises:
        Unavailable: the brokers do not answer, or refuse to tell.
    """
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    try:
        answers = admin.describe_configs(resources, request_timeout=_ANSWER_S)
        configs = {resource.name: answer.result(_ANSWER_S) for resource, answer in answers.items()}
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"Kafka does not tell the limits of {', '.join(topics)}: {error}.") from error
    return {topic: int(config["max.message.bytes"].value) for topic, config in configs.items()}
