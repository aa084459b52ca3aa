"""Random values of any Avro type as bytes, and schemas as a plain reader takes them."""

import copy
import struct
from collections.abc import Mapping
from random import Random
from typing import Any, TypeAlias

Json: TypeAlias = Any

TEXTS = ("", "x", "Unknown", "é", "日本語 and more than twelve", "a\0b", "🛍" * 5, "y" * 300)


def value(rng: Random, node: Json, declared: Mapping[str, Json], depth: int = 0) -> tuple[bytes, Json]:
    """A random value's bytes, and its type after unions and names."""
    if isinstance(node, list):
        index = node.index("null") if depth > 5 and "null" in node else rng.randrange(len(node))
        body, chosen = value(rng, node[index], declared, depth + 1)
        return varint(index) + body, chosen
    if isinstance(node, str) and node in declared:
        return value(rng, declared[node], declared, depth)
    kind = node["type"] if isinstance(node, dict) else node
    match kind:
        case "null":
            body = b""
        case "boolean":
            body = rng.choice([b"\0", b"\1"])
        case "int":
            body = varint(rng.choice([0, -1, 1, 63, -(2**31), 2**31 - 1, rng.randrange(-(2**31), 2**31)]))
        case "long":
            body = varint(rng.choice([0, -1, 2**53 + 1, 2**63 - 1, -(2**63), rng.randrange(-(2**50), 2**50)]))
        case "float":
            body = struct.pack("<f", rng.choice([0.0, -1.5, 3e38, float("nan"), float("inf"), rng.random()]))
        case "double":
            body = struct.pack("<d", rng.choice([0.0, -1.5, 1e300, float("nan"), float("-inf"), rng.random()]))
        case "string":
            text = rng.choice(TEXTS).encode()
            body = varint(len(text)) + text
        case "bytes":
            data = rng.choice([b"", b"\xff\0", b"text", b"long enough for a buffer", rng.randbytes(5)])
            body = varint(len(data)) + data
        case "fixed":
            body = rng.randbytes(node["size"])
        case "enum":
            body = varint(rng.randrange(len(node["symbols"])))
        case "record":
            body = b"".join(value(rng, f["type"], declared, depth + 1)[0] for f in node["fields"])
        case "array" | "map":
            body = _blocks(rng, node, declared, depth)
        case _:
            return value(rng, kind, declared, depth)
    return body, node


def _blocks(rng: Random, node: Json, declared: Mapping[str, Json], depth: int) -> bytes:
    out = b""
    for _ in range(0 if depth > 4 else rng.randrange(3)):
        count = rng.randint(1, 3)
        items = b""
        for i in range(count):
            key = f"k{i}".encode()
            items += varint(len(key)) + key if node["type"] == "map" else b""
            items += value(rng, node["items" if node["type"] == "array" else "values"], declared, depth + 1)[0]
        out += varint(count) if rng.random() < 0.5 else varint(-count) + varint(len(items))
        out += items
    return out + varint(0)


def varint(number: int) -> bytes:
    """Avro's zigzag varint."""
    raw = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    return bytes([*out, raw])


def plain(node: Json) -> Json:
    """The schema without logical types, defaults and the writer's aliases: only what the bytes are."""
    if isinstance(node, list):
        return [plain(n) for n in node]
    if not isinstance(node, dict):
        return node
    kept = {k: v for k, v in node.items() if k not in ("logicalType", "default", "aliases", "precision", "scale")}
    if "fields" in kept:
        kept["fields"] = [plain(f) for f in kept["fields"]]
    return {k: plain(v) if k in ("type", "items", "values") else v for k, v in kept.items()}


def inlined(node: Json, references: Mapping[str, Json], seen: set[str]) -> Json:
    """The schema with its references written out where they are first named."""
    if isinstance(node, list):
        return [inlined(n, references, seen) for n in node]
    if isinstance(node, str) and node in references and node not in seen:
        seen.add(node)
        return inlined(copy.deepcopy(references[node]), references, seen)
    if not isinstance(node, dict):
        return node
    made = dict(node)
    if "fields" in made:
        made["fields"] = [inlined(f, references, seen) for f in made["fields"]]
    return {k: inlined(v, references, seen) if k in ("type", "items", "values") else v for k, v in made.items()}
