"""How large a batch each topic takes."""

from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from retail_stream.errors import Unavailable

_ANSWER_S = 10.0
_MAX_BYTES, _SEGMENT_BYTES = "max.message.bytes", "segment.bytes"


def largest_batches(admin: AdminClient, topics: Mapping[str, int]) -> dict[str, int]:
    """The largest batch of each topic, in bytes after compression, the broker's defaults included.

    ``topics``: by name, what counts where the brokers do not let us see the topic's settings.

    Raises:
        Unavailable: the brokers do not answer.
    """
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    limits = dict(topics)
    try:
        for resource, answer in admin.describe_configs(resources, request_timeout=_ANSWER_S).items():
            try:
                config = answer.result(_ANSWER_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise
            else:
                limits[resource.name] = min(int(config[name].value) for name in (_MAX_BYTES, _SEGMENT_BYTES))
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"Kafka does not tell the limits of {', '.join(topics)}: {error}.") from error
    return limits


class BatchLimits:
    """The largest batch of each topic, as of the last question. Any thread may use it."""

    def __init__(self, ask: Callable[[], Mapping[str, int]]) -> None:
        """``ask``: what the topics take now; it waits for brokers that are away."""
        self._ask = ask
        self.ask_again()

    def __getitem__(self, topic: str) -> int:
        return self._limits[topic]

    def ask_again(self) -> None:
        """Ask what the topics take now."""
        self._limits = dict(self._ask())

    def refused(self, topic: str, size: int) -> None:
        """A topic does not take a batch of that size: ask again, and stay below it whatever the answer."""
        limits = dict(self._ask())
        self._limits = {**limits, topic: min(limits[topic], size - 1)}
