"""What a replay does with each dead letter: the record to publish, or the obstacle. Pure.

A record is published with its own key, value, timestamp, partition and headers. The header ``replay.of`` is added: the
position of the first original, however often it was rejected and replayed since. A dead letter whose headers do not
identify its record is not replayed.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from commands.dlq.letters import Headers, Letter
from retail_stream.dead_letters import IN_RAW_TOPIC, Header
from retail_stream.entities import Entity
from retail_stream.kafka.headers import REPLAY_OF

Group = tuple[Entity, str]

#: The largest lead over the clock, in milliseconds, that a raw topic accepts in a timestamp (see topics.py).
AHEAD_MS = 300_000
#: The rule for records with unreadable headers: their dead letters lack these headers.
HEADERS_READABLE = "headers_readable"


class Obstacle(StrEnum):
    """Why a dead letter cannot be replayed."""

    ORIGIN = "its headers name no position on the raw topic of its entity"
    PARTITION = "its raw topic has no such partition"
    HEADERS = "its record had headers that could not be read, and they are lost"
    PAYLOAD = "its key and value are only in the raw topic, as they are too large for the dead letter topic"
    TIMESTAMP = "its timestamp is 0, not a date, or more than five minutes ahead"


@dataclass(frozen=True)
class ReplayRecord:
    """A record to publish on a raw topic; ``timestamp`` in milliseconds."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers

    @property
    def digest(self) -> bytes:
        """A hash of all fields: equal for equal records only."""
        whole = (self.topic, self.partition, self.key, self.value, self.timestamp, self.headers)
        return hashlib.blake2b(repr(whole).encode(errors="surrogatepass"), digest_size=16).digest()


class Plan:
    """Decides dead letters one by one, and counts the decisions by (entity, rules).

    ``replayed``: to publish. ``copies``: their record is published already, because it was rejected again after an
    earlier replay. It is published once, or each replay would double the bad records. ``blocked``: not to publish, for
    the reasons counted in ``obstacles``.
    """

    def __init__(self, partitions: Mapping[str, int], now: int) -> None:
        """``partitions``: raw topic → its number of partitions. ``now``: milliseconds since 1970-01-01 UTC."""
        self._partitions, self._now = partitions, now
        self._digests: set[bytes] = set()
        self.replayed: Counter[Group] = Counter()
        self.copies: Counter[Group] = Counter()
        self.blocked: Counter[Group] = Counter()
        self.obstacles: Counter[Obstacle] = Counter()

    def add(self, letter: Letter) -> ReplayRecord | None:
        """The record to publish; None for a copy or a blocked one."""
        group = letter.entity, ", ".join(letter.rules)
        record = self._record(letter)
        if isinstance(record, Obstacle):
            self.blocked[group] += 1
            self.obstacles[record] += 1
            return None
        if record.digest in self._digests:
            self.copies[group] += 1
            return None
        self._digests.add(record.digest)
        self.replayed[group] += 1
        return record

    def _record(self, letter: Letter) -> ReplayRecord | Obstacle:
        origin = letter.origin
        if origin is None:
            return Obstacle.ORIGIN
        if origin.partition >= self._partitions.get(origin.topic, 0):
            return Obstacle.PARTITION
        if HEADERS_READABLE in letter.rules:
            return Obstacle.HEADERS
        # Its null value is not a delete.
        if letter.value is None and letter.text(Header.PAYLOAD) == IN_RAW_TOPIC.decode():
            return Obstacle.PAYLOAD
        # The client replaces 0 by the current time. Raw topics never accepted a timestamp that is not a date. A broker
        # that refuses one record for being ahead refuses its whole batch.
        if letter.timestamp == 0 or letter.at is None or letter.timestamp > self._now + AHEAD_MS:
            return Obstacle.TIMESTAMP
        headers = letter.original_headers
        if letter.replay_of is None:
            headers = [
                *((name, value) for name, value in headers if name != REPLAY_OF),
                (REPLAY_OF, str(origin).encode()),
            ]
        return ReplayRecord(origin.topic, origin.partition, letter.key, letter.value, letter.timestamp, headers)
