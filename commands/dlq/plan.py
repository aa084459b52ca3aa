"""What a replay does with each dead letter: the record that goes back, or why none does. Pure.

A record goes back with its own key, value, timestamp, partition and headers, and with the header ``replay.of``: the
place of the first original, whatever number of times it was rejected and replayed since. Nothing is guessed: a letter
that does not say what its record was stays where it is.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from commands.dlq.letters import Headers, Letter
from retail_stream.entities import Entity
from retail_stream.kafka.headers import REPLAY_OF

Group = tuple[Entity, str]

#: How far ahead of the clock a raw topic takes timestamps, milliseconds (see topics.py).
AHEAD_MS = 300_000
#: The rule of records whose headers no client could read: their dead letters are without them.
HEADERS_READABLE = "headers_readable"


class Obstacle(StrEnum):
    """Why a letter cannot be replayed."""

    ORIGIN = "the headers name no place on the raw topic of the entity"
    PARTITION = "the raw topic has no such partition"
    HEADERS = "the record had headers that nobody could read, and the letter is without them"
    TIMESTAMP = "the timestamp is 0, no date, or more than five minutes ahead"


@dataclass(frozen=True)
class Record:
    """What goes back to a raw topic; ``timestamp`` in milliseconds."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers

    @property
    def digest(self) -> bytes:
        """The same for equal records only."""
        whole = (self.topic, self.partition, self.key, self.value, self.timestamp, self.headers)
        return hashlib.blake2b(repr(whole).encode(errors="surrogatepass"), digest_size=16).digest()


class Plan:
    """Takes letters one by one, and counts by (entity, rules) what becomes of them.

    ``going``: go back. ``copies``: letters of a record that goes back already, as when it was replayed and rejected
    again; it goes back once, or each replay would double what is still bad. ``stuck``: cannot go back, for the reasons
    counted in ``obstacles``.
    """

    def __init__(self, partitions: Mapping[str, int], now: int) -> None:
        """``partitions``: raw topic → how many it has. ``now``: milliseconds since 1970-01-01 UTC."""
        self._partitions, self._now = partitions, now
        self._digests: set[bytes] = set()
        self.going: Counter[Group] = Counter()
        self.copies: Counter[Group] = Counter()
        self.stuck: Counter[Group] = Counter()
        self.obstacles: Counter[Obstacle] = Counter()

    def take(self, letter: Letter) -> Record | None:
        """The record to publish; None where none is, or where it goes back already."""
        group = letter.entity, ", ".join(letter.rules)
        found = self._record(letter)
        if isinstance(found, Obstacle):
            self.stuck[group] += 1
            self.obstacles[found] += 1
            return None
        if found.digest in self._digests:
            self.copies[group] += 1
            return None
        self._digests.add(found.digest)
        self.going[group] += 1
        return found

    def _record(self, letter: Letter) -> Record | Obstacle:
        origin = letter.origin
        if origin is None:
            return Obstacle.ORIGIN
        if origin.partition >= self._partitions.get(origin.topic, 0):
            return Obstacle.PARTITION
        if HEADERS_READABLE in letter.rules:
            return Obstacle.HEADERS
        # The client takes 0 for "now"; what is no date was never let in; and a broker that refuses one record for being
        # ahead refuses all that were sent with it.
        if letter.timestamp == 0 or letter.at is None or letter.timestamp > self._now + AHEAD_MS:
            return Obstacle.TIMESTAMP
        own = letter.own_headers
        if letter.replay_of is None:
            own = [*((name, value) for name, value in own if name != REPLAY_OF), (REPLAY_OF, str(origin).encode())]
        return Record(origin.topic, origin.partition, letter.key, letter.value, letter.timestamp, own)
