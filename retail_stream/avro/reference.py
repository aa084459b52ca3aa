"""The decoder in plain Python: what `records.c` does, a value at a time, to read and to compare with.

An Avro record has no names and no lengths: it is the values of its fields, one behind the other, as the writer's schema
says. Numbers are zigzag varints (seven bits a byte, lowest first; -1 is 1, 1 is 2), floats are little-endian, text and
bytes have their length in front, a union the number of its branch, an enum that of its symbol. Arrays and maps are
blocks of items behind their count, until a count of 0; a negative count has the block's size in bytes behind it.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np

from retail_stream.avro.plan import (
    DEEPEST,
    MOST_EMPTY_ITEMS,
    Bytes,
    Columns,
    Fault,
    Group,
    Int64s,
    Kind,
    Plan,
    Ranges,
    Store,
)
from retail_stream.avro.reader import Reader, view

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)


class _Bad(Exception):
    """The record has no row; the number beside the fault is the field, unless another is given."""

    def __init__(self, fault: Fault, where: int | None = None) -> None:
        super().__init__(fault)
        self.fault, self.where = fault, where


def decode(
    reader: Reader, groups: Sequence[Group], buffer: Bytes, begins: Int64s, ends: Int64s
) -> tuple[Columns, list[Ranges]]:
    """Decode the records ``buffer[begins[i]:ends[i]]``, each row by the plan of its group.

    Returns the columns of all rows, and the ranges of each group. Rows in no group are zeros.
    """
    data = buffer.tobytes()
    into = Columns.empty(reader.slots, reader.marks, len(begins))
    all_ranges = []
    for group in groups:
        plan, rows = group.plan, len(group.rows)
        ranges = Ranges(np.full((2 * plan.extras, rows), -1, np.int64), np.zeros(rows, np.int32))
        for item, row in enumerate(group.rows.tolist()):
            _Record(plan, data, int(begins[row]), int(ends[row]), row, into, item, ranges).read()
        all_ranges.append(ranges)
    return into, all_ranges


class _Record:
    def __init__(
        self, plan: Plan, data: bytes, at: int, end: int, row: int, into: Columns, item: int, ranges: Ranges
    ) -> None:
        self._plan, self._data, self._at, self._end = plan, data, at, end
        self._row, self._into, self._item, self._ranges = row, into, item, ranges
        self._field = -1
        self._empty_items = 0

    def read(self) -> None:
        fault, where = Fault.NONE, 0
        try:
            self._whole()
            if self._at != self._end:
                raise _Bad(Fault.LEFT_OVER, self._end - self._at)
        except _Bad as e:
            fault, where = e.fault, self._field if e.where is None else e.where
        self._into.fault[self._row], self._into.where[self._row] = fault, where

    def _whole(self) -> None:
        kind, _, _, first, count, *_ = self._plan.nodes[0].tolist()
        if kind != Kind.UNION:
            self._value(0, 0)
            return
        branch = self._index(count, Fault.BAD_BRANCH)
        self._ranges.branch[self._item] = branch
        self._value(first + branch, 1)

    def _value(self, node: int, depth: int) -> None:
        kind, slot, store, a, b, mark, extra, field = self._plan.nodes[node].tolist()
        if field >= 0:
            self._field = field
        if depth > DEEPEST:
            raise _Bad(Fault.TOO_DEEP)
        began = self._at
        match kind:
            case Kind.NULL:
                self._count(a)
                if slot >= 0:
                    self._put(slot, (0,) * b, mark, there=0)
            case Kind.BOOLEAN:
                value = self._take(1)[0]
                if value > 1:
                    raise _Bad(Fault.BAD_BOOLEAN)
                self._number(slot, store, mark, value)
            case Kind.INT:
                value = self._varint()
                if value not in _INT32:
                    raise _Bad(Fault.BAD_NUMBER)
                self._number(slot, store, mark, value)
            case Kind.LONG:
                self._number(slot, store, mark, self._varint(), b)
            case Kind.FLOAT:
                self._real(slot, mark, struct.unpack("<f", self._take(4))[0])
            case Kind.DOUBLE:
                self._real(slot, mark, struct.unpack("<d", self._take(8))[0])
            case Kind.BYTES | Kind.STRING:
                self._text(slot, store, mark, self._length(), checked=kind == Kind.STRING)
            case Kind.FIXED:
                self._text(slot, store, mark, a, checked=False)
            case Kind.ENUM:
                symbol = self._index(b, Fault.BAD_SYMBOL)
                if slot >= 0:
                    known = int(self._plan.links[a + symbol])
                    if known < 0:
                        raise _Bad(Fault.UNRESOLVED, -1 - known)
                    self._put(slot, (known,), mark)
            case Kind.RECORD:
                for child in range(a, a + b):
                    self._value(child, depth + 1)
            case Kind.UNION:
                self._value(a + self._index(b, Fault.BAD_BRANCH), depth + 1)
            case Kind.ARRAY | Kind.MAP:
                self._blocks(kind, a, b, depth)
            case Kind.DEFAULT:
                self._put(slot, tuple(self._plan.constants[a : a + b].tolist()), mark)
            case Kind.FAIL:
                raise _Bad(Fault.UNRESOLVED, a)
        if extra >= 0:
            self._ranges.places[2 * extra : 2 * extra + 2, self._item] = began, self._at

    def _blocks(self, kind: int, child: int, each: int, depth: int) -> None:
        while count := self._varint():
            size = None
            if count < 0:
                count, size = -count, self._length()
            began = self._at
            if each:
                self._count(count * each)
                count = 0
            for _ in range(count):
                if kind == Kind.MAP:
                    self._text(-1, 0, -1, self._length(), checked=True)
                self._value(child, depth + 1)
            if size is not None and self._at != began + size:
                raise _Bad(Fault.BAD_BLOCK)

    def _count(self, items: int) -> None:
        self._empty_items += items
        if self._empty_items > MOST_EMPTY_ITEMS:
            raise _Bad(Fault.TOO_MANY)

    def _take(self, size: int) -> bytes:
        if size > self._end - self._at:
            raise _Bad(Fault.CUT_SHORT)
        self._at += size
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        raw = 0
        for i in range(10):
            byte = self._take(1)[0]
            raw |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                value = (raw >> 1) ^ -(raw & 1)
                if value in _INT64:
                    return value
                break
        raise _Bad(Fault.BAD_NUMBER)

    def _length(self) -> int:
        length = self._varint()
        if not 0 <= length <= self._end - self._at:
            raise _Bad(Fault.BAD_LENGTH)
        return length

    def _index(self, count: int, fault: Fault) -> int:
        index = self._varint()
        if not 0 <= index < count:
            raise _Bad(fault)
        return index

    def _number(self, slot: int, store: int, mark: int, value: int, sentence: int = 0) -> None:
        if slot < 0:
            return
        match store:
            case Store.AS_DOUBLE:
                self._real(slot, mark, float(value))
                return
            case Store.AS_FLOAT:
                self._real(slot, mark, float(np.int64(value).astype(np.float32)))
                return
            case Store.FROM_MILLIS:
                value *= 1000
            case Store.FROM_NANOS:
                value //= 1000
        if value not in _INT64:
            raise _Bad(Fault.UNRESOLVED, sentence)
        self._put(slot, (value,), mark)

    def _real(self, slot: int, mark: int, value: float) -> None:
        if slot >= 0:
            self._put(slot, struct.unpack("<q", struct.pack("<d", math.nan if math.isnan(value) else value)), mark)

    def _text(self, slot: int, store: int, mark: int, size: int, *, checked: bool) -> None:
        began = self._at
        data = self._take(size)
        if checked or store == Store.TEXT_VIEW:
            try:
                data.decode()
            except UnicodeDecodeError:
                raise _Bad(Fault.BAD_TEXT) from None
        if slot >= 0:
            head, tail = view(data, bytearray())
            # A view of more than 12 bytes ends with its buffer (0, the batch) and its place there.
            self._put(slot, (head, tail if size <= 12 else began << 32), mark)

    def _put(self, slot: int, cell: tuple[int, ...], mark: int, there: int = 1) -> None:
        if len(cell) == 2:
            self._into.values[slot : slot + 2].reshape(-1, 2)[self._row] = cell
        else:
            self._into.values[slot, self._row] = cell[0]
        if mark >= 0:
            self._into.valid[mark, self._row] = there
