"""Every topic of the pipeline. `retail-stream init` creates them; brokers must not create topics by themselves."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from retail_stream.avro.compatibility import BACKWARD, NONE, STRICTEST
from retail_stream.entities import Entity
from retail_stream.package_data import folder

#: The partitioner of Kafka's Java clients, for all producers: any tool then finds a key in the same partition.
PARTITIONER = "murmur2_random"

SCHEMAS = folder("schemas")


class Result(StrEnum):
    """The topics that do not belong to an entity."""

    LATE = "sales.late"
    WINDOWS = "sales.windows"
    WATERMARKS = "sales.watermarks"
    FAULTS = "generator.faults"
    RULES = "cleaner.rules"
    STATE = "generator.state"


class Group(StrEnum):
    """Consumer groups, one per service that consumes."""

    CLEANER = "cleaner"
    SCD_MERGER = "scd_merger"
    AGGREGATOR = "aggregator"


def raw(entity: Entity) -> str:
    """``<entity>.raw``: records as the operational system published them."""
    return f"{entity}.raw"


def clean(entity: Entity) -> str:
    """``<entity>.clean``: records that met the expectations, with defaults applied."""
    return f"{entity}.clean"


def dlq(entity: Entity) -> str:
    """``<entity>.dlq``: rejected records, in their original bytes."""
    return f"{entity}.dlq"


@dataclass(frozen=True)
class Topic:
    """A topic: its name, the file with the Avro schema of its values (None: any bytes) and its broker settings."""

    name: str
    schema_file: Path | None
    config: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The registry's subject of the values (Confluent's TopicNameStrategy)."""
        return f"{self.name}-value"

    @property
    def compatibility(self) -> str:
        """The mode of the subject. Clean schemas are derived from raw ones, and their known fields never change."""
        layer = self.name.rpartition(".")[2]
        return {"raw": STRICTEST, "clean": NONE}.get(layer, BACKWARD)

    def schema(self) -> dict[str, Any]:
        """The Avro schema of the values, as parsed JSON.

        Raises:
            ValueError: the topic holds bytes as they came.
        """
        if self.schema_file is None:
            raise ValueError(f"{self.name} has no schema: it holds bytes as they came")
        schema: dict[str, Any] = json.loads(self.schema_file.read_text())
        return schema


# Kafka's default, stated because the other limit has to exceed it. It limits a batch as its producer compressed it.
_RAW_BYTES = 1_048_588
# A record gains headers on its way, and our compression may be weaker than its producer's. What fits into a raw topic
# must fit into every topic behind it, or one large record would stop a service for good.
_DERIVED_BYTES = 16 * _RAW_BYTES

_KEEP = {"retention.ms": "-1"}
# The broker itself refuses a raw record whose timestamp lies more than five minutes ahead of its clock.
AHEAD = "message.timestamp.after.max.ms"
_RAW = {**_KEEP, AHEAD: "300000", "max.message.bytes": str(_RAW_BYTES)}
_DERIVED = {**_KEEP, "max.message.bytes": str(_DERIVED_BYTES)}
# The generator reads its state whole when it starts: small segments are compacted soon, and with them go the markers of
# transactions and the deletes of closed ids, which are most of the topic. No start takes a minute to read it.
_STATE = {**_KEEP, "cleanup.policy": "compact", "segment.bytes": str(2**20), "delete.retention.ms": "60000"}

TOPICS: tuple[Topic, ...] = (
    *(Topic(raw(e), SCHEMAS / "raw" / f"{e}.avsc", _RAW) for e in Entity),
    *(Topic(clean(e), SCHEMAS / "clean" / f"{e}.avsc", _DERIVED) for e in Entity),
    *(Topic(dlq(e), None, _DERIVED) for e in Entity),
    Topic(Result.LATE, SCHEMAS / "clean" / "sales.avsc", _DERIVED),
    Topic(Result.WINDOWS, SCHEMAS / "results" / "sales.windows.avsc", _KEEP),
    Topic(Result.WATERMARKS, SCHEMAS / "results" / "sales.watermarks.avsc", _KEEP),
    Topic(Result.FAULTS, SCHEMAS / "results" / "generator.faults.avsc", _KEEP),
    # JSON by <entity>/<version>; never deleted, as old records name old versions.
    Topic(Result.RULES, None, {"cleanup.policy": "compact", **_KEEP}),
    # By entity and id, in the usual partitions; see services/generator/state/entries.py.
    Topic(Result.STATE, None, _STATE),
)

_BY_NAME = {t.name: t for t in TOPICS}


def topic(name: str) -> Topic:
    """The topic of that name.

    Raises:
        KeyError: the pipeline has no such topic.
    """
    return _BY_NAME[name]
