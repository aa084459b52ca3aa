"""The types of a condition's parts, and what may be done with them."""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl


class Kind(StrEnum):
    """What a part of a condition holds; the value is its name for people."""

    WHOLE = "a whole number"
    DOUBLE = "a number"
    DECIMAL = "a decimal number"  # only as a constant
    TEXT = "text"
    TIME = "a time"
    PERIOD = "an interval"  # only as a constant
    TRUTH = "a condition"


#: The first and last value of a 64-bit integer.
INT64 = -(2**63), 2**63 - 1
INT32 = -(2**31), 2**31 - 1
#: Times are cut off at this distance from 1970, in microseconds, so that an interval can be added.
FAR_US = 2**62


@dataclass(frozen=True)
class Part:
    """A part of a condition as an expression over columns.

    ``constant``: it names no field. ``low``, ``high``: of whole numbers, times and intervals the smallest and the
    largest value that it can have, both inclusive; times and intervals in microseconds.
    """

    kind: Kind
    expr: pl.Expr
    constant: bool = False
    low: int = 0
    high: int = 0

    @property
    def is_number(self) -> bool:
        """Whether arithmetic can be done with it."""
        return self.kind in (Kind.WHOLE, Kind.DOUBLE, Kind.DECIMAL)

    @property
    def as_double(self) -> pl.Expr:
        """Its value as a double; whole numbers are rounded to the nearest one, half to even."""
        return self.expr.cast(pl.Float64) if self.kind is Kind.WHOLE else self.expr


@dataclass(frozen=True)
class Field:
    """A field that conditions may name: what its column holds, and the limits of whole numbers."""

    kind: Kind
    low: int = 0
    high: int = 0

    def part(self, name: str) -> Part:
        """The field's column, of 64 bits, with times cut off at ``FAR_US``."""
        column = pl.col(name)
        if self.kind is Kind.TIME:
            return Part(self.kind, column.clip(-FAR_US, FAR_US), low=-FAR_US, high=FAR_US)
        if self.kind is Kind.WHOLE:
            return Part(self.kind, column.cast(pl.Int64), low=self.low, high=self.high)
        return Part(self.kind, column)

    @property
    def sql(self) -> str:
        """The type of its column in DuckDB."""
        return {Kind.WHOLE: "BIGINT", Kind.DOUBLE: "DOUBLE", Kind.TEXT: "VARCHAR", Kind.TIME: "TIMESTAMP"}.get(
            self.kind, "BOOLEAN"
        )
