"""Raw records in, cleaner processes in between, clean records and dead letters out: what these tests share."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.dead_letters import IN_RAW_TOPIC, Header
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group
from tests.harness.eventually import eventually
from tests.harness.examples import examples
from tests.harness.groups import remove_members
from tests.harness.servers import Servers, connections_of
from tests.harness.services import ServiceProcess, servers_of

PARTITIONS = range(4)

RAW = {e: RecordSchema(json.loads((SCHEMAS / "raw" / f"{e}.avsc").read_text())) for e in Entity}
CLEAN = {e: RecordSchema(json.loads((SCHEMAS / "clean" / f"{e}.avsc").read_text())) for e in Entity}
#: Nov 2023: before any clock that these tests run on.
LONG_AGO_US = 1_700_000_000_000_000


def _good(entity: Entity) -> dict[str, Any]:
    found = next(x for x in examples("valid") if x.entity is entity and x.value and not x.defaults)
    times = [f["name"] for f in RAW[entity].schema["fields"] if isinstance(f["type"], dict)]
    return {**(found.value or {}), **dict.fromkeys(times, LONG_AGO_US)}


#: A good record of each entity.
GOOD = {e: _good(e) for e in Entity}
#: The field that the Kafka key repeats.
KEY: dict[Entity, str] = {
    Entity.SALES: "store_id",
    **{e: f"{e.removesuffix('s')}_id" for e in Entity if e is not Entity.SALES},
}


class Cleaner(ServiceProcess):
    """A process of `python -m services.cleaner`."""

    def __init__(self, connections: Connections, log: Path, settings: Mapping[str, str]) -> None:
        super().__init__("cleaner", {**servers_of(connections), **settings}, log)

    def is_ready(self) -> bool:
        """Whether /readyz says so; it must not have ended."""
        assert self.is_running(), self.log()[-3000:]
        return self.at.ask("/readyz")[0] == 200

    def metrics(self) -> dict[str, float]:
        """Sample (name and labels, as they are written) → value."""
        lines = self.at.ask("/metrics")[1].splitlines()
        return {name: float(value) for name, _, value in (s.rpartition(" ") for s in lines if not s.startswith("#"))}

    def peak_mb(self) -> float:
        """The most memory that it ever had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Place(NamedTuple):
    """Where a raw record is."""

    entity: Entity
    partition: int
    offset: int


class Outcome(NamedTuple):
    """All that came out, in the order of each partition, by the raw record that it came of."""

    raw: dict[Place, Message]
    clean: list[tuple[Place, Message]]
    dead: list[tuple[Place, Message]]


class World:
    """The topics from now on: what they hold already is as if it were not there."""

    def __init__(self, stack: Servers, log: Path) -> None:
        self.stack = stack
        self.connections = connections_of(stack)
        self.log = log
        self.registry = Registry(self.connections.schema_registry_url)
        self.ids = {e: self.registry.register(f"{topics.raw(e)}-value", RAW[e].schema) for e in Entity}
        self.clean_ids = {e: self.registry.register(f"{topics.clean(e)}-value", CLEAN[e].schema) for e in Entity}
        self._cleaners: list[Cleaner] = []
        # One that is kept: a new one takes up to three seconds now and then, in which a cleaner does a lot.
        self._admin = clients.admin(self.connections)
        self._from: dict[Callable[[Entity], str], dict[TopicPartitionKey, int]] = {
            kind: self._ends(kind) for kind in (topics.raw, topics.clean, topics.dlq)
        }
        self._group = clients.consumer(self.connections, Group.CLEANER)
        at = [TopicPartition(*key, offset) for key, offset in self._from[topics.raw].items()]

        def commit() -> bool:
            self._group.commit(offsets=at, asynchronous=False)
            return True

        # The broker may be loading the group's offsets still.
        eventually(commit, "the offsets are committed", retry_on=KafkaException)

    def _ends(self, kind: Callable[[Entity], str]) -> dict[TopicPartitionKey, int]:
        return self._end_offsets([(kind(e), p) for e in Entity for p in PARTITIONS])

    def _end_offsets(self, keys: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
        wanted = list(keys)
        # The leader of a topic that was just created may not know yet that it leads.
        return eventually(
            lambda: end_offsets(self.connections, wanted), "every partition has a leader", retry_on=Unavailable
        )

    def reconnect(self) -> None:
        """New clients: one that saw a broker die goes on asking with a leader epoch of before, and is refused."""
        self._group.close()
        self._admin, self._group = clients.admin(self.connections), clients.consumer(self.connections, Group.CLEANER)

    def start(self, **settings: str) -> Cleaner:
        self._cleaners.append(Cleaner(self.connections, self.log, settings))
        return self._cleaners[-1]

    def started(self, **settings: str) -> Cleaner:
        """Start one and wait until it is ready."""
        cleaner = self.start(**settings)
        eventually(cleaner.is_ready, "the cleaner is ready")
        return cleaner

    def close(self) -> None:
        for cleaner in self._cleaners:
            cleaner.kill()
        self.bury()
        self._group.close()
        print(self.log.read_text() if self.log.exists() else "")

    def bury(self) -> None:
        """Tell the group that its members are dead, which it would find out by itself after ten seconds."""
        remove_members(self._admin, self.connections.kafka_bootstrap_servers, Group.CLEANER)

    def producer(self, **config: Any) -> Producer:
        return clients.producer(self.connections, **config)

    def value(self, entity: Entity, **changes: Any) -> bytes:
        """A good record with changes, as our generator would send it."""
        return frame(self.ids[entity], encode(RAW[entity].plain, {**GOOD[entity], **changes}))

    def send(
        self,
        entity: Entity,
        *values: bytes | None,
        key: bytes | None = None,
        partition: int = 0,
        compression: str = "lz4",
    ) -> None:
        """Publish values; ``key``: if not that of the good record."""
        failed: list[object] = []
        producer = self.producer(**{"compression.type": compression})
        for value in values:
            producer.produce(
                topics.raw(entity),
                value,
                key or good_key(entity),
                partition=partition,
                on_delivery=lambda error, _: failed.extend([error] if error else []),
            )
        assert producer.flush(30) == 0
        assert failed == []

    def committed(self) -> dict[TopicPartitionKey, int]:
        asked = [TopicPartition(*key) for key in self._from[topics.raw]]
        return {(tp.topic, tp.partition): tp.offset for tp in self._group.committed(asked, timeout=10)}

    def is_drained(self) -> bool:
        """The cleaner is done with every raw record."""
        for cleaner in self._cleaners[-1:]:
            assert cleaner.is_running(), cleaner.log()[-3000:]
        return self.committed() == self._ends(topics.raw)

    def drain(self, within_s: float = 120) -> None:
        # A coordinator that has just started may not answer yet.
        eventually(self.is_drained, "committed = end of every raw partition", within_s, retry_on=KafkaException)

    def delivered(self, entity: Entity) -> int:
        """How many clean records there are by now, repeats included."""
        keys = [(topics.clean(entity), p) for p in PARTITIONS]
        ends = self._end_offsets(keys)
        return sum(ends[key] - self._from[topics.clean][key] for key in keys)

    def outcome(self) -> Outcome:
        """Read everything."""
        raw = {Place(e, m.partition(), m.offset()): m for e, m in self._read(topics.raw)}
        clean = [(Place(e, m.partition(), source_offset(m)), m) for e, m in self._read(topics.clean)]
        dead = []
        for entity, message in self._read(topics.dlq):
            headers = headers_by_name(message)
            assert headers[Header.TOPIC] == topics.raw(entity).encode()
            place = Place(entity, int(headers[Header.PARTITION] or b""), int(headers[Header.OFFSET] or b""))
            assert place.partition == message.partition()
            dead.append((place, message))
        return Outcome(raw, clean, dead)

    def _read(self, kind: Callable[[Entity], str]) -> Iterable[tuple[Entity, Message]]:
        by_topic = {kind(e): e for e in Entity}
        starts = self._from[kind]
        left = {key for key, end in self._ends(kind).items() if end > starts[key]}
        reader: Consumer = clients.consumer(self.connections, "reader")
        reader.assign([TopicPartition(*key, starts[key]) for key in left])
        while left:
            for message in reader.consume(10_000, 0.2):
                if message.error() is None:
                    yield by_topic[message.topic()], message
                else:
                    left.discard((message.topic(), message.partition()))
        reader.close()


def good_key(entity: Entity) -> bytes:
    """The key of the good record."""
    return str(GOOD[entity][KEY[entity]]).encode()


def source_offset(message: Message) -> int:
    """Of the raw record that a clean one came of."""
    offset = big_endian(headers_by_name(message)[SOURCE_OFFSET])
    assert offset is not None
    return offset


def rules(message: Message) -> set[str]:
    """The rules that a dead letter broke."""
    return set((headers_by_name(message)[Header.RULES] or b"").decode().split(","))


def assert_nothing_lost_or_invented(out: Outcome, *, repeats: bool = False) -> None:
    """Every raw record is in clean or in the DLQ, as it came; ``repeats``: whether records may be there twice."""
    clean, dead = {place for place, _ in out.clean}, {place for place, _ in out.dead}
    assert clean | dead == set(out.raw)
    assert not clean & dead
    if not repeats:
        assert (len(out.clean), len(out.dead)) == (len(clean), len(dead))
    for place, message in out.dead:
        original = out.raw[place]
        if headers_by_name(message).get(Header.PAYLOAD) == IN_RAW_TOPIC:
            assert (message.key(), message.value(), message.timestamp()) == (None, None, original.timestamp())
            continue
        assert message.value() == original.value(), place
        assert_same_frame(message, original)
    for place, message in out.clean:
        assert_same_frame(message, out.raw[place])


def assert_same_frame(message: Message, original: Message) -> None:
    """Key, time and headers are those of the original; more headers may follow."""
    assert message.key() == original.key()
    assert message.timestamp() == original.timestamp()
    own = original.headers() or []
    assert (message.headers() or [])[: len(own)] == own
