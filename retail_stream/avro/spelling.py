r"""How a value stands in the column `extra`: JSON from which Postgres reads every value back (docs/schemas.md).

A JSON number here is a double or an integer of less than 2⁵³, which every reader of JSON keeps. What JSON or Postgres
cannot hold is a string of ``~``, a type, ``:`` and a text:

    long of 2⁵³ and more in size      "~long:9007199254740993"
    NaN, the infinities, -0.0         "~double:NaN", "~double:-Infinity", "~double:-0.0"
    bytes and fixed                   "~bytes:0080", in hex
    decimal                           "~decimal:1.28"
    timestamps, in their own unit     "~timestamp-millis:1764504000000"
    text that holds U+0000            "~text:a\000b", as Postgres writes bytea in its format `escape`
    a field that is too large         "~omitted:1048577", its size in bytes

A string that begins with ``~`` gets another one in front. Keys of maps and names of fields are written like strings. A
value of a union with more than one type beside null is an object whose only key names the branch.
"""

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any

from retail_stream.avro.reader import TIMES
from retail_stream.avro.types import AvroType
from retail_stream.avro.values import ValueReader

#: Numbers below this in size are the same in every reader of JSON.
_EXACT = 2**53
#: Decimals of more bytes, or more digits behind the point, are written as bytes.
_DECIMAL_BYTES = _DECIMAL_SCALE = 1000
_ODD_DOUBLES = frozenset(("nan", "inf", "-inf", "-0.0"))
_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0.0": "-0.0"}


def text_of(avro_type: AvroType, data: bytes) -> str | None:
    """JSON of a value of any type from its bytes, which a decoder has walked over before; None for null."""
    value = _Spelled(data).value(avro_type)
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def text_of_number(number: int) -> str:
    """JSON of an int or a long."""
    return str(number) if -_EXACT < number < _EXACT else f'"~long:{number}"'


def text_of_double(number: float) -> str:
    """JSON of a float or a double."""
    text = repr(number)
    return f'"~double:{_NAMES[text]}"' if text in _ODD_DOUBLES else text


def text_of_string(text: str) -> str:
    """JSON of a string, quoted."""
    return encode_basestring(_string(text))


#: kind of a type without logical type → how its values, as Python's, are written
WRITERS: Mapping[str, Callable[[Any], str]] = {
    "boolean": lambda value: "true" if value else "false",
    "int": text_of_number,
    "long": text_of_number,
    "float": text_of_double,
    "double": text_of_double,
    "string": text_of_string,
}


def _string(text: str) -> str:
    if "\0" in text:
        escaped = text.replace("\\", "\\\\").replace("\0", "\\000")
        return f"~text:{escaped}"
    return f"~{text}" if text.startswith("~") else text


class _Spelled(ValueReader):
    """Reads values as what :func:`json.dumps` writes."""

    def value(self, avro_type: AvroType) -> Any:
        match avro_type.kind:
            case "union":
                number = self.number()
                value = self.value(avro_type.parts[number])
                several = sum(b.kind != "null" for b in avro_type.parts) > 1
                return {branch_name(avro_type, number): value} if several and value is not None else value
            case "record":
                return {_string(f.name): self.value(f.type) for f in avro_type.fields}
            case "map":
                item = avro_type.parts[0]
                return {_string(self.text()): self.value(item) for count in self.blocks() for _ in range(count)}
            case "array" | "null" | "boolean":
                return super().value(avro_type)
            case kind:
                return _leaf(kind, avro_type, super().value(avro_type))


def branch_name(union: AvroType, number: int) -> str:
    """The name of a branch without namespace; ``~`` and its number follow where another branch has the same."""
    names = [b.short_name or b.kind for b in union.parts]
    return names[number] if names.count(names[number]) == 1 else f"{names[number]}~{number}"


def _leaf(kind: str, avro_type: AvroType, value: Any) -> Any:
    match kind:
        case "int" | "long":
            if avro_type.logical in TIMES:
                return f"~{avro_type.logical}:{value}"
            return value if -_EXACT < value < _EXACT else f"~long:{value}"
        case "float" | "double":
            text = repr(value)
            return f"~double:{_NAMES[text]}" if text in _ODD_DOUBLES else value
        case "bytes" | "fixed":
            return _decimal(avro_type, value) or f"~bytes:{value.hex()}"
        case _:
            return _string(value)


def _decimal(avro_type: AvroType, data: bytes) -> str | None:
    """A decimal, or None for other bytes: Avro ignores the logical type where precision and scale are not valid."""
    if avro_type.logical != "decimal" or not 0 < len(data) <= _DECIMAL_BYTES:
        return None
    precision, scale = avro_type.node.get("precision"), avro_type.node.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= min(precision, _DECIMAL_SCALE):
        return None
    number = int.from_bytes(data, "big", signed=True)
    digits = str(abs(number)).rjust(scale + 1, "0")
    point = len(digits) - scale
    return f"~decimal:{'-' if number < 0 else ''}{digits[:point]}{'.' if scale else ''}{digits[point:]}"
