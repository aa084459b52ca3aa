"""DuckDB with bounded memory, filled with frames."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
import polars as pl

Engine = duckdb.DuckDBPyConnection

_MOST_BYTES = 2_000_000_000
#: Files with a container's memory limit (cgroup v2, v1). Absent, ``max`` or a huge number: no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class _Stream:
    """A frame that offers only the Arrow stream interface, which DuckDB reads without pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def memory(limits: Iterable[Path] = _LIMITS) -> int:
    """Bytes for the database: 2 GB, or half of the container's limit if that is less. Python needs the other half."""
    for path in limits:
        if path.exists() and (limit := path.read_text().strip()).isdigit():
            return min(_MOST_BYTES, int(limit) // 2)
    return _MOST_BYTES


def connect(spill: Path) -> Engine:
    """An empty database, which spills to files in the folder ``spill``."""
    engine = duckdb.connect(config={"memory_limit": f"{memory()}B", "temp_directory": str(spill)})
    # Rows are compared by key, so the order of insertion need not be kept, which costs memory.
    engine.execute("SET preserve_insertion_order = false")
    return engine


def create(engine: Engine, table: str, schema: Mapping[str, pl.DataType], select: str = "*") -> None:
    """Make an empty table with the columns that ``select`` makes of a frame with this schema."""
    _feed(
        engine, f"CREATE OR REPLACE TABLE {table} AS SELECT {select} FROM incoming", pl.DataFrame(schema=dict(schema))
    )


def insert(engine: Engine, table: str, frame: pl.DataFrame, select: str = "*") -> None:
    """Append a frame: the columns that ``select`` makes of it, matched by name."""
    if not frame.is_empty():
        _feed(engine, f"INSERT INTO {table} BY NAME SELECT {select} FROM incoming", frame)


def _feed(engine: Engine, statement: str, frame: pl.DataFrame) -> None:
    engine.register("incoming", _Stream(frame))
    engine.execute(statement)
    engine.unregister("incoming")


def count(engine: Engine, relation: str, where: str = "true") -> int:
    """The number of rows of a relation that meet a condition."""
    # All: a result with rows left would keep frames from being inserted.
    ((number,),) = engine.execute(f"SELECT count(*) FROM {relation} WHERE {where}").fetchall()
    return int(number)
