"""Records of a raw topic, and which of them are valid: those that the cleaner accepts. Pure.

Other sources write to the raw topics, too. Their invalid records become dead letters, so no sale may refer to them.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache

import polars as pl

from retail_stream.avro.decoder import ROW, Decoded
from retail_stream.entities import FIELDS, Entity
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import RuleSet, load_all

_LAST_US = 253_402_300_799_999_999  # of the year 9999
_MICROSECONDS = 1000  # in a millisecond
_KEY, _AT = "key", "record_time"


@dataclass(frozen=True)
class PublishedRecords:
    """Records of one topic, in order of offset within each partition, with their decoded values.

    ``unreadable``: rows whose headers are not UTF-8.
    """

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]
    decoded: Decoded
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

    def valid_ids(self, entity: Entity) -> list[int]:
        """The entity's own ids in the rows that the cleaner accepts; of a sale its ``transaction_id``."""
        ids: list[int] = self.valid(entity)[
            "transaction_id" if entity is Entity.SALES else FIELDS[entity].key
        ].to_list()
        return ids

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
