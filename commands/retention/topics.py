"""Sets how long Kafka keeps the records of topics."""

from collections.abc import Mapping

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from commands.retention.settings import TopicRetention
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka import clients

_DAY_MS = 86_400_000
#: Kafka deletes whole segments. It begins a new one after this time at the latest (by default a week), so what is kept
#: too long is a tenth of what is to be kept.
_SEGMENT, _LONGEST_SEGMENT_MS = "segment.ms", 7 * _DAY_MS
_RETENTION = "retention.ms"
_log = structlog.get_logger(__name__)


def wanted(settings: TopicRetention) -> dict[str, dict[str, str]]:
    """Topic → broker settings, of the topics that a variable is about."""
    days = {
        **dict.fromkeys([f(e) for e in Entity for f in (topics.raw, topics.clean)], settings.retention_records_days),
        **dict.fromkeys(map(topics.dlq, Entity), settings.retention_dead_letters_days),
    }
    return {topic: _config(n) for topic, n in days.items() if n is not None}


def _config(days: int) -> dict[str, str]:
    kept = days * _DAY_MS
    segment = min(kept // 10, _LONGEST_SEGMENT_MS) if kept else _LONGEST_SEGMENT_MS
    return {_RETENTION: str(kept or -1), _SEGMENT: str(segment)}


def apply(settings: TopicRetention, client: AdminClient) -> None:
    """Set it on the topics that have something else; they exist.

    Raises:
        Unavailable: Kafka does not answer.
    """
    for topic, config in wanted(settings).items():
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            found = client.describe_configs([resource], request_timeout=10)[resource].result()
            before = {name: found[name].value for name in config}
            if before == config:
                continue
            for name, value in config.items():
                resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
            client.incremental_alter_configs([resource], request_timeout=10)[resource].result()
        except KafkaException as e:
            raise clients.unavailable(settings, e) from e
        _log.info("topic changed", topic=topic, **_shown(config), was=_shown(before))


def _shown(config: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace(".", "_"): value for name, value in config.items()}
