"""Records found on a raw topic, and which of them count: those that the cleaner lets pass. Pure.

Other sources write to the raw topics, too. What they get wrong is a dead letter, so nobody may sell to it. The rules
are the contract's, written down once more, as services share no code. Golden records check them.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import polars as pl

from retail_stream.avro.decode import ROW, Decoded
from retail_stream.avro.schema import Holds
from retail_stream.entities import FIELDS, Entity
from services.generator.publishing.faults import FUTURE_US

#: An id of a dimension is a positive int32, a sale's a positive int64.
LAST_ID, LAST_SALE = 2**31 - 1, 2**63 - 1
_FIRST_US, _LAST_US = -2_208_988_800_000_000, 253_402_300_799_999_999  # of the years 1900 and 9999
_AMOUNT = 1e9
_MICROSECONDS = 1000  # in a millisecond
_KEY, _AT = "__key", "__at"


@dataclass(frozen=True)
class Found:
    """Records of one topic, in order of offset within each partition, and their values decoded.

    ``holds``: field → what it holds, of all their schemas. ``sequence_us``: of deletes that have the header
    `sequence.time`, its value; None where it is no time. ``unreadable``: rows whose headers nobody can read.
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
        """The newest timestamp, at least 0, of those that are in a year with four digits."""
        return max([0, *(t for t in self._timestamps() if t <= _LAST_US)])

    def sound(self, entity: Entity) -> pl.DataFrame:
        """The decoded rows that the cleaner lets pass."""
        table, fields = self.decoded.table, FIELDS[entity]
        keys = pl.Series(_KEY, self.keys, dtype=pl.Binary).gather(table[ROW])
        at = pl.Series(_AT, self._timestamps(), dtype=pl.Int64).gather(table[ROW])
        rules = [
            pl.col(_KEY) == pl.col(fields.key).cast(pl.String).cast(pl.Binary),
            pl.col(fields.time) <= pl.col(_AT) + FUTURE_US,
            ~pl.col(ROW).is_in(list(self.unreadable)),
            *(rule for name, held in self.holds.items() if (rule := _storable(name, held, table.schema)) is not None),
        ]
        if entity is Entity.SALES:
            rules.append(pl.col("discount_applied") >= 0)
        return table.with_columns(keys, at).filter(*rules).drop(_KEY, _AT)

    def deletes(self) -> Iterator[int]:
        """The ids of a dimension whose deletes the cleaner lets pass."""
        for row, (value, at) in enumerate(zip(self.values, self._timestamps(), strict=True)):
            if value is None and row not in self.unreadable and (number := _id(self.keys[row])) is not None:
                time = self.sequence_us.get(row, at)
                if time is not None and _FIRST_US <= time <= min(_LAST_US, at + FUTURE_US):
                    yield number

    def _timestamps(self) -> list[int]:
        # Kafka takes some of which the microseconds have no place in 64 bits.
        far = 2**62 // _MICROSECONDS
        return [min(max(t, -far), far) * _MICROSECONDS for t in self.timestamps_ms]


def _storable(name: str, held: Holds, schema: pl.Schema) -> pl.Expr | None:
    """What Postgres takes; null is for nobody to judge here."""
    column = pl.col(name)
    match held, schema.get(name):
        case Holds.TEXT, pl.String:
            return ~column.fill_null("").str.contains("\0", literal=True)
        case Holds.AMOUNT, pl.Float64:
            # Neither is NaN, which Polars takes for larger than everything.
            return column.fill_null(0).abs() < _AMOUNT
        case Holds.TIME, pl.Int64:
            return column.fill_null(0).is_between(_FIRST_US, _LAST_US)
    return None


def _id(key: bytes | None) -> int | None:
    """The id that a key is, exactly."""
    try:
        number = int(key[:12]) if key is not None else None
    except ValueError:
        return None
    return number if number is not None and b"%d" % number == key and -LAST_ID - 1 <= number <= LAST_ID else None
