"""Two relations that should be one: how many rows differ, and which, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from commands.audit.engine import Engine, count
from commands.verify.report import MAX_EXAMPLES, Check

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Kind(Enum):
    """How a column's value is shown."""

    PLAIN = auto()
    TIME = auto()  # microseconds since 1970-01-01 UTC
    SPAN = auto()  # microseconds
    CENTS = auto()


@dataclass(frozen=True)
class Column:
    """A column that both relations have."""

    name: str
    kind: Kind = Kind.PLAIN

    def show(self, value: Any) -> str:
        """A value for a person."""
        if value is None:
            return "nothing"
        match self.kind:
            case Kind.TIME:
                return _time(int(value))
            case Kind.SPAN:
                return str(timedelta(microseconds=int(value)))
            case Kind.CENTS:
                return f"{Decimal(int(value)) / 100:,.2f}"
        return repr(value) if isinstance(value, str | bytes | bytearray) else str(value)


def columns(*names: str, kind: Kind = Kind.PLAIN) -> tuple[Column, ...]:
    """Several columns of one kind."""
    return tuple(Column(n, kind) for n in names)


@dataclass(frozen=True)
class Differences:
    """How many rows are missing, superfluous or of another content, and some of them in words."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def __add__(self, other: "Differences") -> "Differences":
        return Differences(self.count + other.count, (self.examples + other.examples)[:MAX_EXAMPLES])


def differences(
    engine: Engine, expected: str, found: str, keys: Sequence[Column], values: Sequence[Column], noun: str = ""
) -> Differences:
    """Compare two relations (names or queries) that have ``keys`` (never null) and ``values``, row by row.

    ``noun``: what a row is called in the examples, before its key.
    """
    key_names, names = [f'"{k.name}"' for k in keys], [f'"{v.name}"' for v in values]
    on = " AND ".join(f"e.{k} = f.{k}" for k in key_names)
    differ = " OR ".join(["e.here IS NULL", "f.here IS NULL", *(f"e.{n} IS DISTINCT FROM f.{n}" for n in names)])
    picked = ", ".join(
        [f"coalesce(e.{k}, f.{k})" for k in key_names] + ["e.here", "f.here"] + [f"e.{n}, f.{n}" for n in names]
    )
    wanted = ", ".join([*key_names, *names, "true AS here"])
    joined = (
        f"(SELECT {wanted} FROM {_relation(expected)}) e FULL JOIN (SELECT {wanted} FROM {_relation(found)}) f ON {on}"
    )
    rows = engine.execute(
        f"SELECT count(*) OVER (), {picked} FROM {joined} WHERE {differ}"
        f" ORDER BY {', '.join(str(i + 2) for i in range(len(keys)))} LIMIT {MAX_EXAMPLES}"
    ).fetchall()
    if not rows:
        return Differences()
    return Differences(rows[0][0], tuple(_example(noun, row[1:], keys, values) for row in rows))


def check(
    engine: Engine,
    name: str,
    expected: str,
    found: str,
    keys: Sequence[Column],
    values: Sequence[Column],
    note: str = "",
) -> Check:
    """One line of the report: the rows of both relations counted and compared."""
    differing = differences(engine, expected, found, keys, values)
    figures = count(engine, _relation(expected)), count(engine, _relation(found))
    return Check(name, *figures, differing.count, differing.examples, note)


def listed(engine: Engine, query: str) -> Differences:
    """Differences that a query lists by itself, each row a text."""
    rows = engine.execute(
        f"SELECT count(*) OVER (), t FROM ({query}) AS q(t) ORDER BY 2 LIMIT {MAX_EXAMPLES}"
    ).fetchall()
    return Differences(rows[0][0], tuple(t for _, t in rows)) if rows else Differences()


def _relation(sql: str) -> str:
    return f"({sql})" if " " in sql else sql


def _example(noun: str, row: Sequence[Any], keys: Sequence[Column], values: Sequence[Column]) -> str:
    key = " ".join(f"{k.name} {k.show(v)}" for k, v in zip(keys, row, strict=False))
    place = f"{noun} {key}".strip()
    is_expected, is_found, *pairs = row[len(keys) :]
    if not is_found:
        return f"{place}: missing"
    if not is_expected:
        return f"{place}: should not be there"
    wrong = (
        f"{c.name} expected {c.show(e)}, found {c.show(f)}"
        for c, e, f in zip(values, pairs[::2], pairs[1::2], strict=True)
        if e != f
    )
    return f"{place}: {'; '.join(wrong)}"


def _time(us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{us} µs"
