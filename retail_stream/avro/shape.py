"""Finds which of many Avro records are well-formed, all at once: it follows lengths and reads no values.

A step moves all records over one field, so the cost is a few array operations a field. A record is sound if its walk
ends exactly where its bytes end. A decoder that reads sound records as one block cannot run from one into the next.
Any other record is *suspect*: it may still be Avro (a varint can be longer than needed), which a slower reader decides.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retail_stream.errors import RetailStreamError

#: How many bytes must follow the last record in the buffer: varints are looked at through windows of this size.
PADDING = 16

Offsets = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_CONTINUES = np.uint64(0x8080_8080_8080_8080)
_FIXED_BYTES = {"float": 4, "double": 8}


class Shape:
    """The layout of a record schema whose fields are scalars, nullable or not."""

    def __init__(self, types: Sequence[str | list[str]]) -> None:
        """``types``: the fields' Avro types in order, logical types dropped; a list is a union of null and a scalar."""
        self._types = list(types)

    def sound(self, buffer: bytes, starts: Offsets, ends: Offsets) -> Flags:
        """For each record, whether ``buffer[start:end]`` is laid out as the schema says.

        Raises:
            RetailStreamError: fewer than PADDING bytes follow the last record.
        """
        if len(ends) and ends.max() + PADDING > len(buffer):
            raise RetailStreamError(f"a buffer of Avro records needs {PADDING} bytes of padding")
        return _Walk(buffer, starts, ends).through(self._types)


class _Walk:
    def __init__(self, buffer: bytes, starts: Offsets, ends: Offsets) -> None:
        self._octets = np.frombuffer(buffer, np.uint8)
        # Eight bytes from every offset on; unaligned, so each look at it is a copy.
        self._windows = np.ndarray((len(buffer) - 7,), "<u8", buffer, strides=(1,))
        self._ends = ends
        self._at = np.minimum(starts, ends)
        self._good: Flags = starts <= ends

    def through(self, types: Sequence[str | list[str]]) -> Flags:
        for avro_type in types:
            if isinstance(avro_type, list):
                self._union(avro_type)
            else:
                self._move(self._after(avro_type))
        good: Flags = self._good & (self._at == self._ends)
        return good

    def _move(self, at: Offsets) -> None:
        self._good &= at <= self._ends
        # A walk that ran over the end goes on from the end and stays suspect.
        self._at = np.minimum(at, self._ends)

    def _union(self, branches: list[str]) -> None:
        chosen = self._octets[self._at]
        self._good &= (chosen == 0) | (chosen == 2)
        is_null = chosen == 2 * branches.index("null")
        self._move(self._at + 1)
        scalar = next(b for b in branches if b != "null")
        good, at = self._good.copy(), self._at
        after = self._after(scalar)
        self._good = np.where(is_null, good, self._good)
        self._move(np.where(is_null, at, after))

    def _after(self, avro_type: str) -> Offsets:
        match avro_type:
            case "int":
                return self._at + self._varint(5, 0x0F)[1]
            case "long":
                return self._at + self._varint(10, 0x01)[1]
            case "boolean":
                self._good &= self._octets[self._at] <= 1
                return self._at + 1
            case "string" | "bytes":
                return self._text()
            case _:
                return self._at + _FIXED_BYTES[avro_type]

    def _varint(self, most: int, top: int) -> tuple[npt.NDArray[np.uint64], Offsets]:
        """Windows at, and sizes of, the varints here; suspect beyond ``most`` bytes, or with a last above ``top``."""
        window = self._windows[self._at]
        stops = ~window & _CONTINUES
        # The bits up to and with the lowest stop bit: 8 for one byte, 16 for two, ...; also 64 where there is none.
        size = (np.bitwise_count(stops ^ (stops - np.uint64(1))) >> 3).astype(np.int64)
        if not stops.all() or size.max(initial=0) >= most:
            size = self._long_varints(window, stops, size, most, top)
        return window, size

    def _long_varints(
        self, window: npt.NDArray[np.uint64], stops: npt.NDArray[np.uint64], size: Offsets, most: int, top: int
    ) -> Offsets:
        ninth, tenth = self._octets[self._at + 8], self._octets[self._at + 9]
        size = np.where(stops != 0, size, np.where(ninth < 0x80, 9, np.where(tenth < 0x80, 10, 11)))
        last = tenth if most == 10 else (window >> np.uint64(8 * (most - 1))) & np.uint64(0xFF)
        self._good &= (size < most) | ((size == most) & (last <= top))
        return size

    def _text(self) -> Offsets:
        window, size = self._varint(10, 0x01)
        # Lengths of up to 27 bits; a longer one is more than Kafka carries.
        self._good &= size <= 4
        value = window & np.uint64(0x7F)
        for byte in range(1, min(int(size.max(initial=1)), 4)):
            bits = (window >> np.uint64(8 * byte)) & np.uint64(0x7F)
            value |= np.where(size > byte, bits, np.uint64(0)) << np.uint64(7 * byte)
        # Zigzag: an odd number is negative.
        self._good &= (value & np.uint64(1)) == 0
        return self._at + size + (value >> np.uint64(1)).astype(np.int64)
