"""``late``: where the sales on `sales.late` were in the raw topic, and which windows each of them missed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl

from commands.audit.engine import Engine, create, insert
from commands.audit.records import text
from commands.audit.results import OUTBOX_ID, WHY, Told
from commands.verify.windows import span
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name

_SCHEMA: dict[str, pl.DataType] = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "warehouse": pl.String(),
    "windows": pl.String(),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LateTable:
    """``offset``: null where the record does not say; ``warehouse``: see verify/results.py; ``windows``: see
    :func:`missed`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create(engine, "late", _SCHEMA)

    def take(self, records: Iterable[Told]) -> None:
        """Append records."""
        rows = []
        for r in records:
            named = headers_by_name(r)  # type: ignore[arg-type]
            owner = text(named.get(OUTBOX_ID))
            warehouse = None if owner is None else owner.partition("/")[0]
            rows.append((r.partition(), big_endian(named.get(SOURCE_OFFSET)), warehouse, missed(named.get(WHY[0]))))
        insert(self._engine, "late", pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def missed(header: bytes | None) -> str | None:
    """The windows of a header like ``1m@2026-01-01T00:00:00Z,…`` as ``<size>@<start>`` in microseconds, with commas
    between; None where it does not say them in that way.
    """
    windows = []
    for name in (text(header) or "").split(","):
        size, _, start = name.strip().partition("@")
        try:
            since = datetime.fromisoformat(start)
        except ValueError:
            return None
        length = span(size)
        if length is None or since.tzinfo is None:
            return None
        windows.append(f"{length}@{(since - _EPOCH) // timedelta(microseconds=1)}")
    return ",".join(windows)
