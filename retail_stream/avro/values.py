"""Single values as Python objects: for the few fields that have no column."""

import struct
from collections.abc import Iterator
from typing import Any

from retail_stream.avro.types import AvroType


def read_value(avro_type: AvroType, data: bytes) -> Any:
    """The value that ``data`` is, which a decoder has walked over before (nothing is checked again).

    Numbers, text, bytes, booleans and None as such, whatever the logical type; an enum's symbol; records and maps as
    dicts, arrays as lists, a union's value without its branch.
    """
    return ValueReader(data).value(avro_type)


class ValueReader:
    """Reads values from bytes, one behind the other; see :func:`read_value`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def value(self, avro_type: AvroType) -> Any:
        """The next value."""
        match avro_type.kind:
            case "null":
                return None
            case "boolean":
                return self._take(1) == b"\1"
            case "int" | "long":
                return self.number()
            case "float":
                return struct.unpack("<f", self._take(4))[0]
            case "double":
                return struct.unpack("<d", self._take(8))[0]
            case "bytes":
                return self._take(self.number())
            case "string":
                return self.text()
            case "fixed":
                return self._take(avro_type.size)
            case "enum":
                return avro_type.symbols[self.number()]
            case "union":
                return self.value(avro_type.parts[self.number()])
            case "record":
                return {f.name: self.value(f.type) for f in avro_type.fields}
            case "array":
                return [self.value(avro_type.parts[0]) for count in self.blocks() for _ in range(count)]
            case _:
                return {self.text(): self.value(avro_type.parts[0]) for count in self.blocks() for _ in range(count)}

    def blocks(self) -> Iterator[int]:
        """The number of items in each block of an array or a map."""
        while count := self.number():
            if count < 0:
                self.number()  # the block's size
            yield abs(count)

    def text(self) -> str:
        """The next string."""
        return self._take(self.number()).decode()

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        """The next int or long."""
        raw = shift = 0
        while True:
            byte = self._take(1)[0]
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (raw >> 1) ^ -(raw & 1)
            shift += 7
