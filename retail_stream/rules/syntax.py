"""The text of a condition as a tree, read by DuckDB's parser: the one that `verify` evaluates the same text with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

Tree = dict[str, Any]

# A line of its own: the text may end in a comment. The parentheses keep it from being more than one expression.
_BEFORE, _AFTER = "SELECT (\n", "\n)"
_UNKNOWN = 2**63
_CONTROL = {chr(c) for c in range(32)} - {"\t", "\n", "\r"} | {"\x7f"}


class ConditionError(Exception):
    """A condition is not valid; ``position``: the character where, counted from 1."""

    def __init__(self, what: str, position: int) -> None:
        """``what``: what is wrong and what is allowed, without a full stop."""
        super().__init__(what)
        self.what, self.position = what, position


@dataclass(frozen=True)
class Node:
    """A part of the tree. ``kind``: DuckDB's name of it, for example ``COMPARE_EQUAL``, or a function's name.

    ``position``: its first character in the condition, counted from 1. ``children``: its operands, in order.
    ``text``: of a constant its text, of a field its name, of a cast the type's name.
    """

    kind: str
    position: int
    children: tuple["Node", ...] = ()
    text: str = ""


def parse(must: str) -> Node:
    """The tree of a condition.

    Raises:
        ConditionError: it is not one SQL expression, or holds a construct that no rule may use.
    """
    if strange := next((i for i, c in enumerate(must) if c in _CONTROL), None):
        raise ConditionError("a control character is not allowed", strange + 1)
    answer = json.loads(_parser().execute("SELECT json_serialize_sql(?)", [_BEFORE + must + _AFTER]).fetchall()[0][0])
    if answer["error"]:
        byte = int(answer.get("position") or 0)
        ends = byte >= len(_BEFORE) + len(must.encode())
        raise ConditionError("it ends too early" if ends else answer["error_message"], _character(must, byte))
    select = answer["statements"][0]["node"] if len(answer["statements"]) == 1 else {}
    items = select.get("select_list", ())
    if len(items) != 1 or select["from_table"]["type"] != "EMPTY":
        raise ConditionError("it is not one expression", 1)
    return _node(must, items[0], 1)


@lru_cache(maxsize=1)
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def _character(must: str, byte: int) -> int:
    """The character of the condition that holds a byte of the statement, counted from 1 and at most the last."""
    return max(1, min(len((must.encode()[: max(0, byte - len(_BEFORE))]).decode(errors="ignore")) + 1, len(must)))


def _node(must: str, tree: Tree, above: int) -> Node:
    at = int(tree["query_location"])
    position = _character(must, at) if at < _UNKNOWN else above
    children = tuple(_node(must, child, position) for child in _children(tree))
    # An operator's own place may be between its operands.
    return Node(_kind(tree, position), min([position, *(c.position for c in children)]), children, _text(tree))


def _kind(tree: Tree, position: int) -> str:
    match tree["class"]:
        case "FUNCTION":
            if tree["distinct"] or tree["filter"] or tree["order_bys"]["orders"] or len(_path(tree)) != 1:
                raise ConditionError(f"this use of {tree['function_name']} is not allowed", position)
            return str(tree["function_name"]).lower()
        case "CONSTANT":
            return str(tree["literal"]["kind"])
        case "CAST":
            return "TRY_CAST" if tree["try_cast"] else "CAST"
        case "BETWEEN" | "COMPARISON" | "CONJUNCTION" | "OPERATOR" | "COLUMN_REF":
            return str(tree["type"])
    raise ConditionError(f"{str(tree['class']).lower()} is not allowed here", position)


def _children(tree: Tree) -> Iterator[Tree]:
    yield from tree.get("children", ())
    yield from (a["expression"] for a in tree.get("arguments", ()))
    yield from (tree[name] for name in ("left", "right", "input", "lower", "upper", "child") if tree.get(name))


def _text(tree: Tree) -> str:
    match tree["class"]:
        case "CONSTANT":
            return str(tree["literal"].get("text", ""))
        case "COLUMN_REF":
            return ".".join(tree["column_names"])
        case "CAST":
            return str(tree["type_expr"].get("type_name", "")).upper()
    return ""


def _path(tree: Tree) -> list[str]:
    return list(tree["qualified_name"]["path"])
