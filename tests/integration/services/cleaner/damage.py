"""Valid records, damaged in every way that we could think of; which way is chosen by the caller's random numbers."""

import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from retail_stream.avro.decode import HEADER_BYTES, encode, frame
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SEQUENCE_TIME
from tests.integration.services.cleaner.world import GOOD, KEY, LONG_AGO_US, RAW, good_key

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Record:
    """What a producer is given."""

    entity: Entity
    value: bytes | None
    key: bytes | None
    headers: Headers


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


class Damage:
    """Records of all entities; ``ids``: the raw schema id of each."""

    def __init__(self, rng: random.Random, ids: dict[Entity, int]) -> None:
        self._rng = rng
        self._ids = ids
        self._ways: list[Callable[[Record], Record]] = [
            self._none,
            self._flip,
            self._truncate,
            self._insert,
            self._length,
            self._number,
            self._nul,
            self._schema_id,
            self._foreign_key,
            self._bad_key,
            self._null,
            self._empty,
            self._noise,
            self._headers,
            self._long_text,
        ]

    def record(self) -> Record:
        """The next one: mostly damaged once, now and then twice."""
        rng = self._rng
        entity = rng.choice(list(Entity))
        record = Record(entity, self._value(entity), good_key(entity), [])
        for _ in range(rng.choice((1, 1, 1, 2))):
            record = rng.choice(self._ways)(record)
        return record

    def _value(self, entity: Entity, **changes: object) -> bytes:
        own = {n: v if n == KEY[entity] else self._varied(v) for n, v in GOOD[entity].items()}
        return frame(self._ids[entity], encode(RAW[entity].plain, {**own, **changes}))

    def _varied(self, value: object) -> object:
        match value:
            case str():
                return value[: self._rng.randrange(1, len(value) + 1)]
            case int():
                return self._rng.randrange(0, value + 1)
            case _:
                return value

    # -- ways ------------------------------------------------------------------------------------------------------

    def _none(self, record: Record) -> Record:
        return record

    def _at(self, value: bytes) -> int:
        """Anywhere in the bytes, the header as often as a field of the body."""
        if self._rng.random() < 0.1 or len(value) <= HEADER_BYTES:
            return self._rng.randrange(min(len(value), HEADER_BYTES))
        return self._rng.randrange(HEADER_BYTES, len(value))

    def _flip(self, record: Record) -> Record:
        if not record.value:
            return record
        out = bytearray(record.value)
        for _ in range(self._rng.choice((1, 1, 1, 8))):
            out[self._at(record.value)] ^= 1 << self._rng.randrange(8)
        return replace(record, value=bytes(out))

    def _truncate(self, record: Record) -> Record:
        return replace(record, value=record.value and record.value[: self._rng.randrange(len(record.value) + 1)])

    def _insert(self, record: Record) -> Record:
        if not record.value:
            return record
        at = self._at(record.value)
        return replace(record, value=record.value[:at] + self._rng.randbytes(1) + record.value[at:])

    def _length(self, record: Record) -> Record:
        """A length, or any other number, that asks for up to eight exabytes."""
        if not record.value:
            return record
        at = self._at(record.value)
        huge = _varint(self._rng.choice((2**31, 2**32 - 2, 2**40, 2**62, 2**63, 2**64 - 2, 2**70)))
        return replace(record, value=record.value[:at] + huge + record.value[at + self._rng.randrange(2) :])

    def _number(self, record: Record) -> Record:
        """NaN, the infinities, and numbers at the ends of their types."""
        changes: dict[str, object] = {}
        for field in RAW[record.entity].plain["fields"]:
            if field["type"] == "double" and self._rng.random() < 0.5:
                changes[field["name"]] = self._rng.choice((math.nan, math.inf, -math.inf, 1e300, -0.0, 5e-324))
            if field["type"] in ("int", "long") and self._rng.random() < 0.3:
                bits = 31 if field["type"] == "int" else 63
                changes[field["name"]] = self._rng.choice((-(2**bits), 2**bits - 1, 0, -1))
        return replace(record, value=self._value(record.entity, **changes))

    def _nul(self, record: Record) -> Record:
        texts = [n for n, v in GOOD[record.entity].items() if isinstance(v, str)]
        text = self._rng.choice(("\0", "a\0b", "\ud7ff\U0010ffff", "￿", " ", ""))
        return replace(record, value=self._value(record.entity, **{self._rng.choice(texts): text}))

    def _schema_id(self, record: Record) -> Record:
        foreign = self._rng.choice([*self._ids.values(), 0, 1, 99_999, 2**31, 2**32 - 1])
        return replace(record, value=frame(foreign, (record.value or b"")[HEADER_BYTES:]))

    def _foreign_key(self, record: Record) -> Record:
        return replace(record, key=str(self._rng.randrange(-5, 1000)).encode())

    def _bad_key(self, record: Record) -> Record:
        own = good_key(record.entity)
        keys = (None, b"", b"\xff\xfe", b"\xed\xa0\x80", b"0" + own, b"+" + own, own + b"\n", b"9" * 40, b"k" * 20_000)
        return replace(record, key=self._rng.choice(keys))

    def _null(self, record: Record) -> Record:
        """A delete, of which only a sale's is bad; with a sequence time that is none, now and then."""
        times = [struct.pack(">q", LONG_AGO_US), struct.pack(">q", 2**63 - 1), b"soon", b"", None]
        headers: Headers = [(SEQUENCE_TIME, self._rng.choice(times))] if self._rng.random() < 0.5 else []
        return replace(record, value=None, headers=record.headers + headers)

    def _empty(self, record: Record) -> Record:
        return replace(record, value=b"")

    def _noise(self, record: Record) -> Record:
        return replace(record, value=self._rng.randbytes(self._rng.randrange(1, 300)))

    def _headers(self, record: Record) -> Record:
        many: list[Headers] = [
            [(f"h{i}", b"x") for i in range(300)],
            [("big", bytes(100_000))],
            [("same", b"1"), ("same", None), ("", b""), ("naïve ☃", b"\xff")],
            # Ours, forged.
            [("source.offset", b"\0" * 8), ("rules", b"none"), ("__connect.errors.offset", b"0")],
        ]
        weights = (1, 1, 20, 20)
        return replace(record, headers=record.headers + self._rng.choices(many, weights)[0])

    def _long_text(self, record: Record) -> Record:
        texts = [n for n, v in GOOD[record.entity].items() if isinstance(v, str)]
        length = self._rng.choice((200, 5_000, 100_000) if self._rng.random() < 0.02 else (200,))
        return replace(record, value=self._value(record.entity, **{self._rng.choice(texts): "é" * length}))
