"""Records of a raw topic, and which of them are valid: those that the cleaner accepts. Pure.

Other sources write to the raw topics, too. Their invalid records become dead letters, so no sale may refer to them.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache

import polars as pl

from retail_stream.avro.decoder import ROW, Decoded
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import RuleSet, load_all
from services.generator.faults import FUTURE_US
from services.generator.retailer.dimension import LAST_ID

_FIRST_US, _LAST_US = -2_208_988_800_000_000, 253_402_300_799_999_999  # of the years 1900 and 9999
_MICROSECONDS = 1000  # in a millisecond
_KEY, _AT = "key", "record_time"


@dataclass(frozen=True)
class PublishedRecords:
    """Records of one topic, in order of offset within each partition, with their decoded values.

    ``holds``: field of the reader → what it holds. ``sequence_us``: row of a delete with the
    header `sequence.time` → the header's value, None where it is not a time. ``unreadable``: rows whose headers are
    not UTF-8.
    """

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]
    decoded: Decoded
    holds: Mapping[str, Holds]
    sequence_us: Mapping[int, int | None] = field(default_factory=dict)
    unreadable: Set[int] = frozenset()

    @property
    def newest_us(self) -> int:
        """The newest timestamp, at least 0; timestamps after the year 9999 are ignored."""
        return max([0, *(t for t in self._timestamps() if t <= _LAST_US)])

    def valid(self, entity: Entity) -> pl.DataFrame:
        """The decoded rows that the cleaner accepts."""
        table = self.decoded.numbered
        texts = [None if key is None else key.decode(errors="replace") for key in self.keys]
        keys = pl.Series(_KEY, texts, dtype=pl.String).gather(table[ROW])
        at = pl.Series(_AT, self._timestamps(), dtype=pl.Int64).gather(table[ROW])
        rules = [rule.held for rule in rule_sets()[entity].expectations if rule.action is Action.REJECT]
        readable = ~pl.col(ROW).is_in(list(self.unreadable))
        return table.with_columns(keys, at).filter(readable, *rules).drop(_KEY, _AT)

    def deleted_ids(self) -> Iterator[int]:
        """The ids of a dimension's deletes that the cleaner accepts."""
        for row, (value, at) in enumerate(zip(self.values, self._timestamps(), strict=True)):
            if value is None and row not in self.unreadable and (number := _id(self.keys[row])) is not None:
                time = self.sequence_us.get(row, at)
                if time is not None and _FIRST_US <= time <= min(_LAST_US, at + FUTURE_US):
                    yield number

    def _timestamps(self) -> list[int]:
        # Kafka accepts timestamps whose microseconds do not fit into 64 bits.
        far = 2**62 // _MICROSECONDS
        return [min(max(t, -far), far) * _MICROSECONDS for t in self.timestamps_ms]


@cache
def rule_sets() -> Mapping[Entity, RuleSet]:
    """The rules of `schemas/rules`, which decide what the cleaner accepts.

    Raises:
        RuleError: a file or a rule is not valid.
    """
    return load_all()


def _id(key: bytes | None) -> int | None:
    """The id of a key, or None where the key is not exactly the decimal digits of an int32."""
    try:
        number = int(key[:12]) if key is not None else None
    except ValueError:
        return None
    return number if number is not None and b"%d" % number == key and -LAST_ID - 1 <= number <= LAST_ID else None
