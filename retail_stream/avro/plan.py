"""The table that drives a decoder: what it does with each part of a record, in numbers.

`passes.c` and `reference.py` carry a plan out; `resolution.py` makes one from a writer's schema. A node is a row of
eight int32:

    kind      what the bytes are (`Kind`)
    slot      the row of the output that takes the value; -1 to skip it
    store     how the value becomes what the column holds (`Store`)
    a, b      record, union: the first child and their number
              array, map: the child; for an array whose items have no bytes how many values each of them is
              fixed: its size
              enum: the first link, the number of symbols
              long of milliseconds: b is the sentence of a failure
              null, default: b is the number of slots that it fills
              default: a is the first constant
              null that is skipped: a is how many values it is, 0 for a single one (records of nulls have no bytes)
              fail: a is the sentence
    mark      the row of the validity flags that says the value is there; -1 for a column without nulls
    extra     the pair of rows that takes where the field's bytes begin and end; -1 for none
    field     the field of the writer's record, for errors; -1 inside a field
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from retail_stream.avro.types import AvroField, AvroType

Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

NODE_WIDTH = 8
STEP_WIDTH = 5


class Kind(IntEnum):
    """What the bytes at a node are. The last two have none."""

    NULL = 0
    BOOLEAN = 1
    INT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    BYTES = 6
    STRING = 7
    FIXED = 8
    ENUM = 9
    RECORD = 10
    UNION = 11
    ARRAY = 12
    MAP = 13
    DEFAULT = 14
    FAIL = 15


class Store(IntEnum):
    """How a value is stored. A column's slot holds an int64 a row, the bits of a float64, or a view (two int64)."""

    PLAIN = 0  # the integer; of a double its bits
    AS_FLOAT = 1  # rounded to 32 bits, then the bits of a double
    AS_DOUBLE = 2
    FROM_MILLIS = 3  # times 1000; beyond 64 bits it is a failure
    FROM_NANOS = 4  # divided by 1000, rounded down
    VIEW = 5  # bytes as an Arrow view: length and the bytes, or length, first 4 bytes, buffer 0, position
    TEXT_VIEW = 6  # the same of bytes that have to be UTF-8
    SYMBOL = 7  # the number that the links give for the writer's symbol; -1 - s there is the failure with sentence s


class Fault(IntEnum):
    """Why a record has no row; the number beside it is the field.

    For UNRESOLVED it is the sentence, for LEFT_OVER the bytes that are left.
    """

    NONE = 0
    CUT_SHORT = 1
    BAD_NUMBER = 2
    BAD_LENGTH = 3
    BAD_TEXT = 4
    BAD_BOOLEAN = 5
    BAD_BRANCH = 6
    BAD_SYMBOL = 7
    BAD_BLOCK = 8
    TOO_DEEP = 9
    TOO_MANY = 10
    LEFT_OVER = 11
    UNRESOLVED = 12


#: How many types deep a value may nest; what reads it later (JSON, other Avro readers) has limits of this kind, too.
DEEPEST = 128
#: Values without bytes (nulls in arrays) that a record may hold: a few bytes can claim any number of them.
MOST_EMPTY_ITEMS = 65_536

_SENTENCES = {
    Fault.CUT_SHORT: "the record ends inside {field}",
    Fault.BAD_NUMBER: "{field} holds a number that is too long for its type",
    Fault.BAD_LENGTH: "{field} holds a negative length, or one beyond the record's end",
    Fault.BAD_TEXT: "{field} holds text that is not UTF-8",
    Fault.BAD_BOOLEAN: "{field} holds a boolean that is not 0 or 1",
    Fault.BAD_BRANCH: "{field} names a branch that its union does not have",
    Fault.BAD_SYMBOL: "{field} names a symbol that its enum does not have",
    Fault.BAD_BLOCK: "{field} holds a block whose size is not that of its items",
    Fault.TOO_DEEP: f"{{field}} nests more than {DEEPEST} types",
    Fault.TOO_MANY: f"{{field}} holds more than {MOST_EMPTY_ITEMS:,} values without bytes",
}


@dataclass(frozen=True)
class Branch:
    """A writer's record that the reader can read: the only one of a schema, or one branch of a union.

    ``extra``: its fields beyond the reader's, in the writer's order; the first one's byte ranges are in the pair of
    rows ``first_extra`` of the ranges.
    """

    record: AvroType
    extra: tuple[AvroField, ...]
    first_extra: int


@dataclass(frozen=True, eq=False)
class Plan:
    """How records of one writer schema become the columns of one reader. Immutable, and the same for every batch."""

    #: why no record of this schema can be read; the tables below are then empty
    refusal: str
    #: (nodes, 8); the first is the whole record
    nodes: Int32s
    links: Int32s
    constants: Int64s
    #: what UNRESOLVED refers to
    failures: tuple[str, ...]
    #: names of the writer's fields, what a node's ``field`` refers to
    fields: tuple[str, ...]
    #: readable branch → its record; without a union at top level the only key is 0
    branches: dict[int, Branch]
    #: pairs of rows in the ranges
    extras: int

    def sentence(self, fault: int, where: int) -> str:
        """Why a record has no row. ``where``: the number beside the fault."""
        if fault == Fault.UNRESOLVED:
            return self.failures[where]
        if fault == Fault.LEFT_OVER:
            return f"{where} bytes follow the record's last field"
        field = f"field {self.fields[where]}" if where >= 0 else "the record"
        return _SENTENCES[Fault(fault)].format(field=field)


@dataclass(frozen=True, eq=False)
class Columns:
    """What a pass writes, for ``n`` values of a batch.

    ``values``: (slots, n) int64; a view column is two slots read as (n, 2). ``valid``: (marks, n), 1 where a nullable
    column holds a value. ``fault``, ``where``: (n,), see :class:`Fault`. Other rows of a bad record have no meaning.
    """

    values: Int64s
    valid: Bytes
    fault: Bytes
    where: Int32s

    @classmethod
    def empty(cls, slots: int, marks: int, n: int) -> "Columns":
        """Columns that no pass has written yet."""
        return cls(
            np.zeros((slots, n), np.int64), np.zeros((marks, n), np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.int32)
        )


@dataclass(frozen=True, eq=False)
class Ranges:
    """Where the fields beyond the reader's are: (2 × extras, rows) begins and ends in the buffer, -1 for none.

    ``branch``: (rows,) the branch of the union at top level, 0 without one. Row by row as they were asked for.
    """

    places: Int64s
    branch: Int32s


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of a batch, as int64 indexes, that one plan reads."""

    plan: Plan
    rows: Int64s


@dataclass(frozen=True, eq=False)
class Job:
    """What a pass writes: ``header``, the steps' columns and the extra fields' bytes of each of ``rows``.

    ``steps``: (fields, 5) int32: the kind, the column's slot and mark, the branches of null and of the value (-1 for
    none). ``places``: (2 × extra fields, rows), as in `decoder.Part`. ``room``: bytes that are surely enough.
    """

    header: bytes
    steps: Int32s
    buffer: Bytes
    pool: bytes
    columns: Columns
    rows: Int64s
    places: Int64s
    room: int


class NullValue(ValueError):
    """A record holds null where the target has a required field."""
