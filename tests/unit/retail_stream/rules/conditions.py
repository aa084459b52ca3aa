"""Random conditions of the SQL that rules may use, and random records with NULLs and the odd values of each type."""

import random
import string
from collections.abc import Callable
from functools import partial
from typing import Any

from retail_stream.entities import Entity
from retail_stream.rules.compiling import compiled
from retail_stream.rules.rule_set import fields_of
from retail_stream.rules.syntax import ConditionError
from retail_stream.rules.types import FAR_US

WHOLES = {"transaction_id": 64, "store_id": 32, "customer_id": 32, "product_id": 32, "quantity": 32}
DOUBLES = ("unit_price", "total_amount", "discount_applied", "tax_amount")
TEXTS = ("payment_method",)
TIMES = ("event_time", "record_time")

_SPECIAL_DOUBLES = [
    0.0,
    -0.0,
    float("nan"),
    float("inf"),
    float("-inf"),
    5e-324,
    1e308,
    -1.5,
    0.1,
    0.30000000000000004,
    9007199254740993.0,
]
_SIGNS = "aAzZ09_ %\\.*+()[]{}^$|?-\t\n\r\x00\x1f\x85\xa0\u2003éßİ字😀\x0b'"
_CELLS = [
    "",
    "a",
    "card",
    "CARD",
    "card ",
    " ",
    "\0",
    "cash\0",
    "a\nb",
    "0",
    "é",
    "e\u0301",
    "\u0085",
    "字",
    "😀",
    "_",
    "%",
]


def row(rng: random.Random) -> dict[str, Any]:
    """A record: every field may be NULL."""

    def whole(bits: int) -> int:
        edge = 2 ** (bits - 1)
        return rng.choice(
            [0, 1, -1, 2, 7, 10, edge - 1, -edge, 2**31 - 1, -(2**31), rng.randrange(-50, 50)]
            + [2**53 + 1] * (bits > 32)
        )

    def double() -> float:
        return rng.choice(
            [*_SPECIAL_DOUBLES, float(rng.randrange(-9, 9)), rng.uniform(-100, 100), rng.randrange(1000) / 100]
        )

    def text() -> str:
        return rng.choice([*_CELLS, "".join(rng.choices(_SIGNS, k=rng.randrange(6)))])

    def time() -> int:
        edges = [0, -1, 1_577_836_800_000_000, FAR_US, -FAR_US, 2**63 - 1, -(2**63), 300_000_000, 10**15]
        return rng.choice([*edges, rng.randrange(-(10**16), 10**16)])

    makers: dict[str, Callable[[], Any]] = {n: partial(whole, bits) for n, bits in WHOLES.items()}
    makers |= dict.fromkeys(DOUBLES, double) | dict.fromkeys(TEXTS, text) | dict.fromkeys(TIMES, time)
    return {n: None if rng.random() < 0.2 else make() for n, make in makers.items()}


def valid_condition(seed: int) -> str:
    """A condition that rules may use: the parts of a random one may not fit together."""
    rng = random.Random(seed)
    while True:
        must = condition(rng)
        try:
            compiled(must, fields_of(Entity.SALES))
        except ConditionError as e:
            if "meets a decimal one" not in e.what:
                raise
            continue
        return must


def condition(rng: random.Random, depth: int = 3) -> str:
    """A condition; with few parentheses, so that precedence counts."""
    if depth and rng.random() < 0.6:
        left, right = condition(rng, depth - 1), condition(rng, depth - 1)
        made = rng.choice(
            [f"{left} AND {right}", f"{left} OR {right}", f"NOT {left}", f"NOT ({left})", f"({left} or {right})"]
        )
        return made if rng.random() < 0.9 else f"({made}) IS {rng.choice(['', 'NOT '])}NULL"
    return rng.choice([_compared, _compared, _between, _in, _null, _like, _regular, _compared_times])(rng)


def _operator(rng: random.Random) -> str:
    return rng.choice(["=", "<>", "!=", "<", "<=", ">", ">="])


def _compared(rng: random.Random) -> str:
    kind = rng.choice([_whole, _double, _text])
    left, right = kind(rng), rng.choice([kind, _constant_of[kind]])(rng)
    return f"{left} {_operator(rng)} {right}" if rng.random() < 0.8 else f"{right} {_operator(rng)} {left}"


def _compared_times(rng: random.Random) -> str:
    other = rng.choice([_time, _moment])(rng)
    return f"{_time(rng)} {_operator(rng)} {other}"


def _between(rng: random.Random) -> str:
    kind = rng.choice([_whole, _double, _text, _time])
    low, high = (rng.choice([kind, _constant_of[kind]])(rng) for _ in range(2))
    return f"{kind(rng)} {rng.choice(['', 'NOT '])}BETWEEN {low} AND {high}"


def _in(rng: random.Random) -> str:
    kind = rng.choice([_whole, _double, _text, _time])
    others = [rng.choice([kind, *[_constant_of[kind]] * 3])(rng) for _ in range(rng.randrange(1, 5))]
    return f"{kind(rng)} {rng.choice(['', 'NOT '])}IN ({', '.join(others)})"


def _null(rng: random.Random) -> str:
    return f"{rng.choice([_whole, _double, _text, _time])(rng)} IS {rng.choice(['', 'NOT '])}NULL"


def _like(rng: random.Random) -> str:
    pattern = "".join(rng.choices("a%_0é字.*+\\[c(r|d^$ ", k=rng.randrange(5)))
    return f"payment_method {rng.choice(['', 'NOT '])}LIKE '{pattern}'"


def _regular(rng: random.Random) -> str:
    return f"regexp_matches({_text(rng)}, '{regular_expression(rng)}')"


def regular_expression(rng: random.Random, depth: int = 2) -> str:
    """A regular expression that rules may use."""
    atoms = [
        "a",
        ".",
        "card",
        "^",
        "$",
        "[a-z]",
        "[^a-z ]",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        r"\W",
        r"\D",
        "é",
        "字",
        r"\.",
        r"\x00",
    ]
    atoms += [
        r"\x{85}",
        r"\p{Z}",
        r"\pL",
        "[\\d_-]",
        "[^\\t-\\r\\x{85}\\p{Z}]",
        r"[\w.]",
        r"\[",
        "_",
        "%",
        " ",
        r"[\s]",
        "[.*+?]",
        r"[\]]",
    ]
    parts = []
    for _ in range(rng.randrange(1, 4)):
        atom = rng.choice(atoms)
        if depth and rng.random() < 0.25:
            atom = f"({rng.choice(['', '?:'])}{regular_expression(rng, depth - 1)})"
        if atom not in "^$" and rng.random() < 0.3:
            atom += rng.choice(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"])
        parts.append(atom)
    return "".join(parts) + (f"|{regular_expression(rng, depth - 1)}" if depth and rng.random() < 0.2 else "")


def _whole(rng: random.Random, depth: int = 1) -> str:
    small = rng.choice(["store_id", "quantity", "customer_id", "product_id"])
    made = [small, small, "transaction_id", f"LENGTH({_text(rng)})"]
    if depth:
        other = rng.choice([_whole_constant(rng), "quantity", "store_id"])
        made += [
            f"{small} {rng.choice('+-*')} {other}",
            f"ABS({small})",
            f"-{small}",
            f"COALESCE({_whole(rng, 0)}, {_whole_constant(rng)})",
        ]
    return rng.choice(made)


def _double(rng: random.Random, depth: int = 2) -> str:
    field = rng.choice(DOUBLES)
    if not depth:
        return field
    other = rng.choice([_double(rng, depth - 1), _constant_of[_double](rng), "quantity", "transaction_id"])
    left = _double(rng, depth - 1)
    made = [
        field,
        f"{left} {rng.choice('+-*')} {other}",
        f"{other} {rng.choice('+-*')} {left}",
        f"ABS({left})",
        f"-{field}",
    ]
    made += [
        f"CAST({rng.choice(list(WHOLES))} AS DOUBLE)",
        f"{rng.choice(list(WHOLES))}::DOUBLE",
        f"COALESCE({left}, {other})",
    ]
    return rng.choice(made)


def _text(rng: random.Random) -> str:
    return rng.choice(["payment_method", "payment_method", f"COALESCE(payment_method, {_text_constant(rng)})"])


def _time(rng: random.Random) -> str:
    field = rng.choice(TIMES)
    period = f"INTERVAL '{rng.randrange(400)} {rng.choice(['second', 'minutes', 'hours', 'day', 'weeks'])}'"
    return rng.choice([field, f"{field} {rng.choice('+-')} {period}", f"COALESCE({field}, {_moment(rng)})"])


def _moment(rng: random.Random) -> str:
    date = (
        f"{rng.choice([1, 1900, 1969, 1970, 2020, 2026, 9999]):04}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    )
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    part = rng.choice(["", ".5", ".123456"])
    return rng.choice([f"DATE '{date}'", f"TIMESTAMP '{date} {clock}{part}'", f"TIMESTAMP '{date}T{clock}'"])


def _whole_constant(rng: random.Random) -> str:
    return str(rng.choice([0, 1, -1, 2, 7, 10, 2**31, -50, 50]))


def _double_constant(rng: random.Random) -> str:
    digits = "".join(rng.choices(string.digits, k=rng.randrange(1, 7)))
    return rng.choice(
        ["0.0", "-0.0", "0.1", "-1.5", "1e3", "1e-1", "0", "-1", "1e308", f"{int(digits)}.{digits}", f".{digits}"]
    )


def _text_constant(rng: random.Random) -> str:
    return rng.choice(["''", "'a'", "'card'", "'card '", "'é'", "'CARD'", "'it''s'", "'字'", "' '"])


_constant_of: dict[Callable[..., str], Callable[[random.Random], str]] = {
    _whole: _whole_constant,
    _double: _double_constant,
    _text: _text_constant,
    _time: _moment,
}
