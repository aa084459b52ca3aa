"""Values of a topic as rows, all in one pass: a pass for each record would take most of a test's time."""

from collections.abc import Iterable
from typing import Any

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, frame


def every_row(schema: RecordSchema, values: Iterable[bytes | None]) -> list[dict[str, Any] | None]:
    """The row of each framed value, whatever its schema id; None for a tombstone and for bytes that are not Avro."""
    framed = [frame(1, (value or b"")[HEADER_BYTES:]) for value in values]
    decoded = schema.read(framed, {1: schema})
    found = dict(zip(decoded.rows, decoded.table.to_dicts(), strict=True))
    return [found.get(i) for i in range(len(framed))]
