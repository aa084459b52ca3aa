"""A condition as an expression over Polars' columns, with the meaning that DuckDB gives the same text.

A comparison with NULL is NULL, and AND, OR and NOT are of three values, as in SQL. NaN equals itself and is larger than
every other number; -0.0 equals 0.0; texts are compared by their UTF-8 bytes. What the two engines do differently is
not allowed: arithmetic that could leave 64 bits, decimal numbers without a double beside them, division, months.
Polars' columns are those of the decoder: Int32 or Int64, times in microseconds, Float64, String.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce

import polars as pl

from retail_stream.rules import moments, patterns
from retail_stream.rules.syntax import ConditionError, Node, parse
from retail_stream.rules.types import INT64, Field, Kind, Part

ALLOWED = (
    "= <> < <= > >=, BETWEEN, IN, IS NULL, AND, OR, NOT, LIKE, + - *, ABS, COALESCE, LENGTH, REGEXP_MATCHES, "
    "CAST(… AS DOUBLE), DATE '…', TIMESTAMP '…', INTERVAL '…'"
)
_COMPARISONS: Mapping[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "COMPARE_EQUAL": operator.eq,
    "COMPARE_NOTEQUAL": operator.ne,
    "COMPARE_LESSTHAN": operator.lt,
    "COMPARE_LESSTHANOREQUALTO": operator.le,
    "COMPARE_GREATERTHAN": operator.gt,
    "COMPARE_GREATERTHANOREQUALTO": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_BOUNDS: Mapping[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
# A decimal of so many digits becomes the same double in both engines.
_MOST_DIGITS = 15


def compiled(must: str, fields: Mapping[str, Field]) -> pl.Expr:
    """The condition over columns named like ``fields``: Boolean, null where SQL says NULL.

    Raises:
        ConditionError: it is not a condition that both engines evaluate alike.
    """
    node = parse(must)
    part = _part(node, fields)
    if part.kind is not Kind.TRUTH:
        raise ConditionError(f"a rule needs a condition, and this is {part.kind}", node.position)
    return part.expr


def _part(node: Node, fields: Mapping[str, Field]) -> Part:
    if node.kind == "COLUMN_REF":
        if node.text not in fields:
            near = get_close_matches(node.text, fields, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(fields)}"
            raise ConditionError(f"'{node.text}' is not a field{meant}", node.position)
        return fields[node.text].part(node.text)
    if node.kind in ("INTEGER", "NUMERIC", "STRING", "BOOLEAN", "NULL_LITERAL"):
        return _constant(node)
    if node.kind == "CAST" and (text := node.children[0]).kind == "STRING":
        return _moment(node, text.text)
    parts = [_part(child, fields) for child in node.children]
    if (build := _BUILDERS.get(node.kind)) is None:
        raise ConditionError(f"{_shown(node.kind)} is not allowed; allowed are {ALLOWED}", node.position)
    return build(node, parts)


def _constant(node: Node) -> Part:
    match node.kind:
        case "INTEGER":
            digits = node.text.replace("_", "")
            number = int(digits) if digits.removeprefix("-").isdigit() else INT64[1] + 1
            if not INT64[0] < number <= INT64[1]:
                raise ConditionError(f"{node.text} is not a decimal number of 64 bits", node.position)
            return Part(Kind.WHOLE, pl.lit(number, pl.Int64), constant=True, low=number, high=number)
        case "NUMERIC":
            text = node.text.replace("_", "").lower()
            if "e" not in text and len(text.lstrip("-").replace(".", "").lstrip("0")) > _MOST_DIGITS:
                raise ConditionError(f"{node.text} has more than {_MOST_DIGITS} digits", node.position)
            kind = Kind.DOUBLE if "e" in text else Kind.DECIMAL
            return Part(kind, pl.lit(float(text), pl.Float64), constant=True)
        case "STRING":
            return Part(Kind.TEXT, pl.lit(node.text, pl.String), constant=True)
        case "BOOLEAN":
            return Part(Kind.TRUTH, pl.lit(value=node.text == "true"), constant=True)
    raise ConditionError("NULL is only allowed in IS NULL and IS NOT NULL", node.position)


def _moment(node: Node, text: str) -> Part:
    """A constant time or interval, in microseconds."""
    is_period = node.text == "INTERVAL"
    try:
        us = moments.period_us(text) if is_period else moments.time_us(node.text, text)
    except ValueError as e:
        raise ConditionError(str(e), node.position) from None
    return Part(Kind.PERIOD if is_period else Kind.TIME, pl.lit(us, pl.Int64), constant=True, low=us, high=us)


def _alike(node: Node, parts: Sequence[Part]) -> tuple[list[pl.Expr], Kind]:
    """Parts that can be compared, as values of one type; at least one of them names a field."""
    if all(p.constant for p in parts):
        raise ConditionError("this names no field, so it is the same for every record", node.position)
    kinds = {p.kind for p in parts}
    if len(kinds) == 1 and kinds <= {Kind.WHOLE, Kind.TEXT, Kind.TIME, Kind.DOUBLE}:
        return [p.expr for p in parts], parts[0].kind
    if Kind.DOUBLE in kinds and all(p.is_number for p in parts):
        return [p.as_double for p in parts], Kind.DOUBLE
    if kinds == {Kind.WHOLE, Kind.DECIMAL}:
        raise ConditionError(
            "a whole number meets a decimal one; write CAST(… AS DOUBLE) around the field", node.position
        )
    raise ConditionError(f"{' and '.join(sorted(kinds))} cannot be compared", node.position)


def _comparison(node: Node, parts: Sequence[Part]) -> Part:
    (left, right), _ = _alike(node, parts)
    return Part(Kind.TRUTH, _COMPARISONS[node.kind](left, right))


def _between(node: Node, parts: Sequence[Part]) -> Part:
    (value, low, high), _ = _alike(node, parts)
    return Part(Kind.TRUTH, (value >= low) & (value <= high))


def _in(node: Node, parts: Sequence[Part]) -> Part:
    (value, *others), kind = _alike(node, parts)
    if kind in (Kind.TEXT, Kind.WHOLE) and all(p.constant for p in parts[1:]):
        whole = kind is Kind.WHOLE
        return Part(
            Kind.TRUTH, value.is_in([int(c.text.replace("_", "")) if whole else c.text for c in node.children[1:]])
        )
    return Part(Kind.TRUTH, reduce(operator.or_, (value == other for other in others)))


def _coalesce(node: Node, parts: Sequence[Part]) -> Part:
    exprs, kind = _alike(node, parts)
    return Part(kind, pl.coalesce(exprs), low=min(p.low for p in parts), high=max(p.high for p in parts))


def _is_null(node: Node, parts: Sequence[Part]) -> Part:
    null = parts[0].expr.is_null()
    return Part(Kind.TRUTH, null if node.kind == "OPERATOR_IS_NULL" else ~null)


def _logic(node: Node, parts: Sequence[Part]) -> Part:
    for part, child in zip(parts, node.children, strict=True):
        if part.kind is not Kind.TRUTH:
            raise ConditionError(f"this is {part.kind}, where a condition is needed", child.position)
    match node.kind:
        case "OPERATOR_NOT":
            return Part(Kind.TRUTH, ~parts[0].expr)
        case "CONJUNCTION_AND":
            return Part(Kind.TRUTH, reduce(operator.and_, (p.expr for p in parts)))
    return Part(Kind.TRUTH, reduce(operator.or_, (p.expr for p in parts)))


def _arithmetic(node: Node, parts: Sequence[Part]) -> Part:
    if all(p.constant for p in parts):
        raise ConditionError("this names no field; write the result instead", node.position)
    if len(parts) == 1:
        if node.kind != "-":
            raise ConditionError("a sign before a field can only be -", node.position)
        parts = [Part(Kind.WHOLE, pl.lit(0, pl.Int64), constant=True), *parts]
        if parts[1].kind is Kind.DOUBLE:
            return Part(Kind.DOUBLE, -parts[1].expr)
    left, right = parts
    kinds = left.kind, right.kind
    apply, combine = _ARITHMETIC[node.kind], _BOUNDS[node.kind]
    if kinds == (Kind.WHOLE, Kind.WHOLE) or (kinds == (Kind.TIME, Kind.PERIOD) and node.kind != "*"):
        ends = [combine(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
        if not INT64[0] < min(ends) <= max(ends) <= INT64[1]:
            raise ConditionError("this may leave 64 bits; write CAST(… AS DOUBLE) around a field", node.position)
        return Part(left.kind, apply(left.expr, right.expr), low=min(ends), high=max(ends))
    if left.is_number and right.is_number and Kind.DOUBLE in kinds:
        return Part(Kind.DOUBLE, apply(left.as_double, right.as_double))
    if Kind.DECIMAL in kinds and Kind.WHOLE in kinds:
        raise ConditionError(
            "a whole number meets a decimal one; write CAST(… AS DOUBLE) around the field", node.position
        )
    raise ConditionError(f"{left.kind} {node.kind} {right.kind} is not allowed", node.position)


def _function(node: Node, parts: Sequence[Part]) -> Part:
    part = parts[0]
    if node.kind == "abs" and len(parts) == 1 and part.kind in (Kind.WHOLE, Kind.DOUBLE):
        if part.kind is Kind.WHOLE and part.low <= INT64[0]:
            raise ConditionError("this may leave 64 bits; write ABS(CAST(… AS DOUBLE))", node.position)
        return Part(part.kind, part.expr.abs(), part.constant, 0, max(abs(part.low), abs(part.high)))
    if node.kind == "length" and len(parts) == 1 and part.kind is Kind.TEXT:
        return Part(Kind.WHOLE, part.expr.str.len_chars().cast(pl.Int64), part.constant, 0, 2**31)
    if node.kind == "CAST" and node.text == "DOUBLE" and part.kind in (Kind.WHOLE, Kind.DOUBLE):
        return Part(Kind.DOUBLE, part.as_double, part.constant)
    kinds = ", ".join(p.kind for p in parts)
    raise ConditionError(f"{_shown(node.kind)} of {kinds} is not allowed; allowed are {ALLOWED}", node.position)


def _pattern(node: Node, parts: Sequence[Part]) -> Part:
    is_field = [not p.constant for p in parts]
    if len(parts) != 2 or is_field != [True, False] or {p.kind for p in parts} != {Kind.TEXT}:
        raise ConditionError(f"{_shown(node.kind)} takes a text field and a pattern", node.position)
    pattern = node.children[1]
    try:
        is_regular = node.kind == "regexp_matches"
        expression = patterns.regular_expression(pattern.text) if is_regular else patterns.like(pattern.text)
    except ValueError as e:
        raise ConditionError(f"in the pattern {e}", pattern.position) from None
    matches = parts[0].expr.str.contains(expression)
    return Part(Kind.TRUTH, ~matches if node.kind == "!~~" else matches)


def _shown(kind: str) -> str:
    names = {"~~": "LIKE", "!~~": "NOT LIKE", "like_escape": "ESCAPE", "~~*": "ILIKE", "!~~*": "ILIKE"}
    names |= {"trunc": "INTERVAL without quotes"}
    return names.get(kind, kind.removeprefix("COMPARE_").removeprefix("OPERATOR_").replace("_", " ").upper())


_BUILDERS: Mapping[str, Callable[[Node, Sequence[Part]], Part]] = {
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(("CONJUNCTION_AND", "CONJUNCTION_OR", "OPERATOR_NOT"), _logic),
    **dict.fromkeys(("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"), _is_null),
    **dict.fromkeys(("abs", "length", "CAST"), _function),
    **dict.fromkeys(("regexp_matches", "~~", "!~~"), _pattern),
    "COMPARE_BETWEEN": _between,
    "COMPARE_IN": _in,
    "OPERATOR_COALESCE": _coalesce,
}
