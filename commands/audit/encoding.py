"""Whether bytes are one record as Avro encodes it. fastavro also takes numbers and branches that do not exist.

A number may have more bytes than it needs: at most ten, as in the cleaner.
"""

import re
from typing import Any

import fastavro

#: What fastavro reads as Avro says, but for numbers that are too long: they have nine such bytes in a row, or more.
_PLAIN = {"int", "long", "float", "double", "string", "bytes"}
_TOO_LONG = re.compile(rb"[\x80-\xff]{9}")
_BITS = {"int": 32, "long": 64}
_SIZES = {"null": 0, "float": 4, "double": 8}
#: The cleaner rejects records that nest deeper, or have more array items without bytes.
_DEEPEST, _MOST_EMPTY = 128, 65_536


class Encoding:
    """Checks the encoding of records of one writer schema."""

    def __init__(self, schema: Any) -> None:
        """``schema``: without logical types. Raises what fastavro raises where it is not valid Avro."""
        self._names: dict[str, Any] = {}
        self.parsed = fastavro.parse_schema(schema, self._names, _write_hint=False)
        types = [f["type"] for f in schema["fields"]] if isinstance(schema, dict) and "fields" in schema else [None]
        self._plain = all(isinstance(t, str) and t in _PLAIN for t in types)

    def holds(self, body: bytes) -> bool:
        """Whether ``body``, which fastavro reads to its end as ints of 32 bits and so on, is one record."""
        return (self._plain and not _TOO_LONG.search(body)) or self.is_record(body)

    def is_record(self, body: bytes) -> bool:
        """Whether ``body`` is one record, value by value."""
        self._body, self._at, self._values, self._empty = body, 0, 0, 0
        try:
            self._value(self.parsed, 0)
        except (ValueError, IndexError):
            return False
        return self._at == len(body)

    def _value(self, schema: Any, depth: int) -> None:
        self._values += 1
        while not isinstance(schema, list) and (kind := schema["type"] if isinstance(schema, dict) else schema):
            if not isinstance(kind, str):  # a type in one more pair of braces
                schema = kind
            elif kind in self._names:
                schema = self._names[kind]
            else:
                break
        if depth > _DEEPEST:
            raise ValueError
        if isinstance(schema, list):
            self._value(schema[self._number(0, len(schema))], depth + 1)
        elif kind in _BITS:
            self._number(-(1 << _BITS[kind] - 1), 1 << _BITS[kind] - 1)
        elif kind in ("string", "bytes"):
            self._text(kind)
        elif kind in _SIZES or kind == "fixed":
            self._take(schema["size"] if kind == "fixed" else _SIZES[kind])
        elif kind == "boolean":
            if self._take(1)[0] > 1:
                raise ValueError
        elif kind == "enum":
            self._number(0, len(schema["symbols"]))
        elif kind in ("array", "map"):
            self._blocks(kind, schema["items" if kind == "array" else "values"], depth)
        else:
            for field in schema["fields"]:
                self._value(field["type"], depth + 1)

    def _blocks(self, kind: str, item: Any, depth: int) -> None:
        while count := self._number(-(1 << 63), 1 << 63):
            size = self._number(0, len(self._body)) if count < 0 else None
            began = self._at
            for _ in range(abs(count)):
                if kind == "map":
                    self._text("string")
                at, values = self._at, self._values
                self._value(item, depth + 1)
                if at == self._at and kind == "array":
                    self._empty += self._values - values
                if self._empty > _MOST_EMPTY:
                    raise ValueError
            if size is not None and self._at != began + size:
                raise ValueError

    def _text(self, kind: str) -> None:
        text = self._take(self._number(0, len(self._body)))
        if kind == "string":
            text.decode()

    def _take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._body):
            raise ValueError
        return self._body[self._at - size : self._at]

    def _number(self, least: int, end: int) -> int:
        """A number from ``least`` to below ``end``."""
        raw = 0
        for shift in range(0, 70, 7):
            byte = self._body[self._at]
            self._at += 1
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                number = (raw >> 1) ^ -(raw & 1)
                if least <= number < end:
                    return number
                break
        raise ValueError
