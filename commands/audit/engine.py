"""DuckDB in memory, with a bound on it, fed with frames."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
import polars as pl

Engine = duckdb.DuckDBPyConnection

_MOST = 2_000_000_000
#: Where a container finds how much memory it may use (cgroup v2, v1); absent, ``max`` or huge: no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class _Stream:
    """A frame as an Arrow stream and nothing else, which DuckDB reads without pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def memory(limits: Iterable[Path] = _LIMITS) -> int:
    """Bytes for the database: 2 GB, or half of a container's limit; the other half is for records and Python."""
    for path in limits:
        if path.exists() and (limit := path.read_text().strip()).isdigit():
            return min(_MOST, int(limit) // 2)
    return _MOST


def connect(spill: Path) -> Engine:
    """An empty database; what does not fit in its memory goes to files in ``spill``."""
    engine = duckdb.connect(config={"memory_limit": f"{memory()}B", "temp_directory": str(spill)})
    # Rows are compared by key: keeping the order of insertion would only cost memory.
    engine.execute("SET preserve_insertion_order = false")
    return engine


def create(engine: Engine, table: str, schema: Mapping[str, pl.DataType], select: str = "*") -> None:
    """Make an empty table of what ``select`` says of a frame with that schema."""
    _feed(
        engine, f"CREATE OR REPLACE TABLE {table} AS SELECT {select} FROM incoming", pl.DataFrame(schema=dict(schema))
    )


def insert(engine: Engine, table: str, frame: pl.DataFrame, select: str = "*") -> None:
    """Append what ``select`` says of a frame; columns go by name."""
    if not frame.is_empty():
        _feed(engine, f"INSERT INTO {table} BY NAME SELECT {select} FROM incoming", frame)


def _feed(engine: Engine, statement: str, frame: pl.DataFrame) -> None:
    engine.register("incoming", _Stream(frame))
    engine.execute(statement)
    engine.unregister("incoming")


def count(engine: Engine, relation: str, where: str = "true") -> int:
    """Rows of a relation that meet a condition."""
    row = engine.execute(f"SELECT count(*) FROM {relation} WHERE {where}").fetchone()
    return int(row[0]) if row else 0
