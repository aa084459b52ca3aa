"""The table ``late``: the raw offset of each sale on `sales.late`, and the windows that it missed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl

from commands.audit.engine import Engine, create, insert
from commands.audit.records import text
from commands.audit.results import LATE_HEADERS, OUTBOX_ID, ResultRecord
from commands.audit.windows import span
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name

_SCHEMA: dict[str, pl.DataType] = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "warehouse": pl.String(),
    "windows": pl.String(),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MissedWindowsTable:
    """``late``: a row per record of `sales.late`.

    ``offset``: of the raw record, null where the header is missing; ``warehouse``: see audit/results.py; ``windows``:
    see :func:`missed`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create(engine, "late", _SCHEMA)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        rows = []
        for r in records:
            named = headers_by_name(r)
            owner = text(named.get(OUTBOX_ID))
            warehouse = None if owner is None else owner.partition("/")[0]
            rows.append(
                (r.partition(), big_endian(named.get(SOURCE_OFFSET)), warehouse, missed(named.get(LATE_HEADERS[0])))
            )
        insert(self._engine, "late", pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def missed(header: bytes | None) -> str | None:
    """The windows of a header such as ``1m@2026-01-01T00:00:00Z,…``, as ``<size>@<start>`` in microseconds.

    They have commas between them; None where the header has another form.
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
