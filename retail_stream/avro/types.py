"""Avro schemas as trees of types: every name resolved, namespaces applied, references to other subjects followed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})

#: logical type → the types that may carry it; on any other type Avro ignores it
LOGICAL_TYPES: Mapping[str, tuple[str, ...]] = {
    "date": ("int",),
    "decimal": ("bytes", "fixed"),
    "duration": ("fixed",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-nanos": ("long",),
    "time-micros": ("long",),
    "time-millis": ("int",),
    "timestamp-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-nanos": ("long",),
    "uuid": ("string", "fixed"),
}

#: branches of a union that a sentence names
_SHOWN = 5

#: full name → schema (parsed JSON or its text) of another subject
References: TypeAlias = Mapping[str, Any]


class SchemaError(ValueError):
    """Why a schema is not a valid Avro schema, as a clause without a full stop."""


@dataclass(eq=False)
class AvroType:
    """One type. ``kind``: a primitive's name, or record, enum, fixed, array, map, union.

    Types that contain themselves are cycles of objects; compare types with :func:`same_layout`, never with ``==``.
    """

    kind: str
    #: full name of a record, enum or fixed
    name: str = ""
    aliases: tuple[str, ...] = ()
    logical: str = ""
    fields: list["AvroField"] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    size: int = 0
    #: of an enum: the symbol that a reader takes for an unknown one
    default: str | None = None
    #: what an array or a map holds: one type; the branches of a union
    parts: list["AvroType"] = field(default_factory=list)
    #: the JSON that declares it
    node: Any = None

    @property
    def short_name(self) -> str:
        """The name without its namespace, by which Avro matches types."""
        return self.name.rpartition(".")[2]

    def __str__(self) -> str:
        """The type as sentences name it, of bounded length."""
        match self.kind:
            case "union":
                more = [f"{len(self.parts) - _SHOWN} more types"] if len(self.parts) > _SHOWN else []
                return f"union of {', '.join([*map(str, self.parts[:_SHOWN]), *more]) or 'nothing'}"
            case "array" | "map":
                item = self.parts[0]
                return f"{self.kind} of {item.kind if item.parts else item}"
            case _:
                named = f"{self.kind} {self.name}" if self.name else self.kind
                return f"{named} ({self.logical})" if self.logical else named


@dataclass(eq=False)
class AvroField:
    """A field of a record; ``node``: the JSON that declares it."""

    name: str
    type: AvroType
    node: Mapping[str, Any]

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names under which older writers know the field."""
        return _strings(self.node.get("aliases"))


def parse(schema: Any, references: References | None = None) -> AvroType:
    """The type that a schema declares.

    ``schema``: parsed JSON, or the text of it. ``references``: schemas of other subjects that it names; they may name
    each other.

    Raises:
        SchemaError: it is not Avro, or names a type that neither it nor the references declare.
    """
    parser = _Parser(references or {})
    try:
        return parser.type(_parsed(schema), "")
    except RecursionError:
        raise SchemaError("is nested too deeply") from None


def same_layout(one: AvroType, other: AvroType) -> bool:
    """Whether two scalars, or unions of them, have the same bytes with the same meaning."""
    if (one.kind, one.logical, one.size, one.symbols) != (other.kind, other.logical, other.size, other.symbols):
        return False
    if one.kind in ("record", "array", "map") or len(one.parts) != len(other.parts):
        return False
    return all(same_layout(a, b) for a, b in zip(one.parts, other.parts, strict=True))


class _Parser:
    def __init__(self, references: References) -> None:
        self._names: dict[str, AvroType] = {}
        self._unread = dict(references)

    def type(self, node: Any, namespace: str) -> AvroType:
        if isinstance(node, str):
            return AvroType(node, node=node) if node in PRIMITIVES else self._named(node, namespace)
        if isinstance(node, list):
            return AvroType("union", parts=[self.type(branch, namespace) for branch in node], node=node)
        if not isinstance(node, Mapping):
            raise SchemaError(f"has {_excerpt(node)} where a type is expected")
        kind = node.get("type")
        match kind:
            case "record" | "error" | "enum" | "fixed":
                return self._declared("record" if kind == "error" else kind, node, namespace)
            case "array" | "map":
                inner = node.get("items" if kind == "array" else "values")
                return AvroType(kind, parts=[self.type(inner, namespace)], node=node)
            case str() if kind in PRIMITIVES:
                return AvroType(kind, logical=_logical(node, kind), node=node)
            case None:
                raise SchemaError(f"has {_excerpt(node)}, which names no type")
            case _:
                return self.type(kind, namespace)

    def _declared(self, kind: str, node: Mapping[str, Any], namespace: str) -> AvroType:
        name = node.get("name")
        if not isinstance(name, str) or not name:
            raise SchemaError(f"declares a type of kind {kind} without a name")
        if "." not in name:
            given = node.get("namespace", namespace)
            name = full_name(name, given if isinstance(given, str) else namespace)
        inside = name.rpartition(".")[0]
        declared = AvroType(kind, name, logical=_logical(node, kind), node=node)
        declared.aliases = tuple(full_name(alias, inside) for alias in _strings(node.get("aliases")))
        # Before its fields, which may name it.
        self._names[name] = declared
        if kind == "record":
            declared.fields.extend(self._fields(node, inside))
        elif kind == "enum":
            declared.symbols.extend(_strings(node.get("symbols")))
            declared.default = node["default"] if node.get("default") in declared.symbols else None
        else:
            size = node.get("size")
            if not isinstance(size, int) or not 0 <= size < 2**31:
                raise SchemaError(f"declares {name} with the size {_excerpt(size)}")
            declared.size = size
        return declared

    def _fields(self, node: Mapping[str, Any], namespace: str) -> Iterator[AvroField]:
        fields = node.get("fields")
        for one in fields if isinstance(fields, list) else ():
            if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
                raise SchemaError(f"has {_excerpt(one)} where a field is expected")
            # Some parsers take a type that is declared in the field itself: {"name": "x", "type": "array", "items": …}.
            inline = one.get("type") in ("array", "map") and ("items" in one or "values" in one)
            yield AvroField(one["name"], self.type(one if inline else one.get("type"), namespace), one)

    def _named(self, name: str, namespace: str) -> AvroType:
        full = full_name(name, namespace)
        for known in (full, name):
            if known in self._names:
                return self._names[known]
        for known in (full, name, *self._unread):
            if known in self._unread:
                self.type(_parsed(self._unread.pop(known)), "")
                return self._named(name, namespace)
        raise SchemaError(f"names the type {full}, which neither it nor its references declare")


def full_name(name: str, namespace: str) -> str:
    """A name with its namespace, unless it has one already."""
    return f"{namespace}.{name}" if namespace and "." not in name else name


def _logical(node: Mapping[str, Any], kind: str) -> str:
    logical = node.get("logicalType")
    return logical if isinstance(logical, str) and kind in LOGICAL_TYPES.get(logical, ()) else ""


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, (list, tuple)) else ()


def _parsed(schema: Any) -> Any:
    if not isinstance(schema, str) or schema in PRIMITIVES:
        return schema
    try:
        return json.loads(schema)
    except ValueError:
        raise SchemaError(f"is {_excerpt(schema)}, which is not JSON") from None


def _excerpt(node: Any) -> str:
    text = json.dumps(node, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
