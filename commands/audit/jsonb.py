r"""Fields that only a writer has, as Postgres writes a jsonb object: docs/schemas.md, written down a second time.

Values are read from the bytes, because fastavro does not say which branch of a union a value had.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import fastavro

#: where :func:`with_meanings` puts a logical type
MEANING = "meaning"
_TIMES = {f"{local}timestamp-{unit}" for local in ("", "local-") for unit in ("millis", "micros", "nanos")}
_SAFE = 2**53 - 1
_BYTES, _CHARACTERS = 1 << 20, 1 << 24


def with_meanings(schema: Any) -> Any:
    """The same schema of a writer with logical types as plain attributes, which fastavro keeps and does not act on.

    It has no defaults: only a reader's count, and registries also take ones that do not fit.
    """
    if isinstance(schema, list):
        return [with_meanings(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {
        MEANING if k == "logicalType" else k: with_meanings(v) for k, v in schema.items() if k not in ("doc", "default")
    }
    return rest["type"] if set(rest) == {"type"} else rest


@dataclass(frozen=True)
class Field:
    """A value: its JSON, its size in bytes, and the logical type of its type, which may be a branch of a union."""

    text: str
    size: int
    meaning: str


class Values:
    """Reads records of one writer schema whose encoding was checked before."""

    def __init__(self, schema: Any) -> None:
        """``schema``: of :func:`with_meanings`. Raises what fastavro raises where it is not valid Avro."""
        self._names: dict[str, Any] = {}
        self._schema = fastavro.parse_schema(schema, self._names, _write_hint=False)

    def read(self, body: bytes) -> dict[str, Field]:
        """The fields of the record, or of the branch that a union at top level has here."""
        self._body, self._at = body, 0
        record = self._schema
        if isinstance(record, list):
            record = record[self._number()]
        record = self._resolved(record)
        fields = {}
        for f in record["fields"]:
            began, self._meaning = self._at, ""
            text = self._text(f["type"])
            fields[f["name"]] = Field(text, self._at - began, self._meaning)
        return fields

    @staticmethod
    def beyond(fields: Mapping[str, Field], known: Set[str]) -> str | None:
        """The fields but the known ones as jsonb; None if all of them are null."""
        others = [(name, fields[name]) for name in sorted(fields.keys() - known)]
        # What Postgres writes is never shorter than what is counted: JSON without blanks and with short numbers.
        large = sum(len(field.text) for _, field in others) > _CHARACTERS
        found = {}
        size = characters = 0
        for name, field in others:
            size += field.size
            if field.text == "null" and size <= _BYTES:
                continue
            if size <= _BYTES:
                characters += _compact(field.text) if large else 0
            fits = size <= _BYTES and characters <= _CHARACTERS
            found[name] = field.text if fits else f'"~omitted:{field.size}"'
        return _object(found) if found else None

    def _resolved(self, schema: Any) -> Any:
        """The schema without names that stand for it and without braces around a type that has braces itself."""
        while not isinstance(schema, list):
            kind = schema["type"] if isinstance(schema, dict) else schema
            if isinstance(kind, dict | list):
                schema = kind
            elif kind in self._names:
                return self._names[kind]
            else:
                return schema
        return schema

    def _text(self, schema: Any) -> str:
        schema = self._resolved(schema)
        if isinstance(schema, list):
            return self._union(schema)
        kind = schema["type"] if isinstance(schema, dict) else schema
        meaning = schema.get(MEANING, "") if isinstance(schema, dict) else ""
        match kind:
            case "record" | "error":
                text = _object({f["name"]: self._text(f["type"]) for f in schema["fields"]})
            case "array":
                text = f"[{', '.join(self._items(lambda: self._text(schema['items'])))}]"
            case "map":
                text = _object(dict(self._items(lambda: (self._string(), self._text(schema["values"])))))
            case "fixed":
                text = _bytes(schema, self._take(schema["size"]))
            case "enum":
                text = _string(schema["symbols"][self._number()])
            case _:
                text = self._primitive(kind, schema)
        self._meaning = meaning if isinstance(meaning, str) else ""
        return text

    def _union(self, branches: list[Any]) -> str:
        number = self._number()
        chosen = self._resolved(branches[number])
        text = self._text(chosen)
        if sum(b != "null" for b in map(self._kind, branches)) < 2 or self._kind(chosen) == "null":
            return text
        names = [self._branch(b) for b in branches]
        name = names[number] if names.count(names[number]) == 1 else f"{names[number]}~{number}"
        return f"{{{json.dumps(name, ensure_ascii=False)}: {text}}}"

    def _kind(self, schema: Any) -> str:
        schema = self._resolved(schema)
        return str(schema["type"] if isinstance(schema, dict) else schema)

    def _branch(self, schema: Any) -> str:
        schema = self._resolved(schema)
        named = schema.get("name") if isinstance(schema, dict) else None
        return str(named).rpartition(".")[2] if named else self._kind(schema)

    def _primitive(self, kind: str, schema: Any) -> str:
        match kind:
            case "null":
                return "null"
            case "boolean":
                return "true" if self._take(1)[0] else "false"
            case "int" | "long":
                return _integer(self._number(), schema)
            case "float":
                return _double(struct.unpack("<f", self._take(4))[0])
            case "double":
                return _double(struct.unpack("<d", self._take(8))[0])
            case "bytes":
                return _bytes(schema, self._take(self._number()))
            case _:
                return _string(self._string())

    def _items(self, read: Callable[[], Any]) -> Iterator[Any]:
        while count := self._number():
            if count < 0:
                self._number()
            for _ in range(abs(count)):
                yield read()

    def _string(self) -> str:
        return self._take(self._number()).decode()

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._body[self._at - size : self._at]

    def _number(self) -> int:
        raw = shift = 0
        while True:
            byte = self._body[self._at]
            self._at += 1
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                return raw // 2 if raw % 2 == 0 else -(raw + 1) // 2
            shift += 7


def _compact(text: str) -> int:
    """How many characters a value has as JSON without blanks and with short numbers."""
    return len(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")))


def _object(members: Mapping[str, str]) -> str:
    """An object as jsonb: keys in the order of their length in bytes, then of their bytes."""
    spelled = {_escaped(name): text for name, text in members.items()}
    ordered = sorted(spelled, key=lambda name: (len(name.encode()), name.encode()))
    return "{" + ", ".join(f"{json.dumps(n, ensure_ascii=False)}: {spelled[n]}" for n in ordered) + "}"


def _tagged(tag: str, text: str) -> str:
    return json.dumps(f"~{tag}:{text}", ensure_ascii=False)


def _integer(number: int, schema: Any) -> str:
    meaning = schema.get(MEANING) if isinstance(schema, dict) and schema["type"] == "long" else None
    if meaning in _TIMES:
        return _tagged(str(meaning), str(number))
    return str(number) if abs(number) <= _SAFE else _tagged("long", str(number))


def _double(number: float) -> str:
    if number != number:
        return _tagged("double", "NaN")
    if number in (float("inf"), float("-inf")):
        return _tagged("double", "Infinity" if number > 0 else "-Infinity")
    if number == 0 and struct.pack(">d", number)[0]:
        return _tagged("double", "-0.0")
    return format(Decimal(repr(number)), "f")


def _bytes(schema: Any, data: bytes) -> str:
    if isinstance(schema, dict) and schema.get(MEANING) == "decimal" and 1 <= len(data) <= 1000:
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if type(precision) is type(scale) is int and 0 <= scale <= precision and scale <= 1000:
            unscaled = int.from_bytes(data, "big", signed=True)
            number = Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale))
            # A negative zero does not exist: its sign is that of the integer.
            return _tagged("decimal", format(number, "f"))
    return _tagged("bytes", data.hex())


def _escaped(text: str) -> str:
    if "\0" in text:
        return "~text:" + text.replace("\\", r"\\").replace("\0", r"\000")
    return "~" + text if text[:1] == "~" else text


def _string(text: str) -> str:
    return json.dumps(_escaped(text), ensure_ascii=False)
