"""Short ways to say a schema, the bytes of a value, and what a reader makes of them."""

from typing import Any

from retail_stream.avro.decoder import Decoded, Schemas, decode
from retail_stream.avro.reader import Reader
from tests.harness.avro_values import varint

ID = 7


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(len(data)) + data


def record(*fields: tuple[str, Any] | dict[str, Any], name: str = "retail_stream.Sale", **more: Any) -> dict[str, Any]:
    made = [f if isinstance(f, dict) else {"name": f[0], "type": f[1]} for f in fields]
    return {"type": "record", "name": name, "fields": made, **more}


def read(reader: dict[str, Any], writer: Any, *bodies: bytes, references: dict[str, Any] | None = None) -> Decoded:
    schemas = Schemas(Reader(reader))
    schemas.add(ID, writer, references)
    return decode([b"\0" + ID.to_bytes(4, "big") + body for body in bodies], schemas)
