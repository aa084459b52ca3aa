"""Patterns that DuckDB's regular expressions (RE2) and Polars' (Rust) match alike.

Both engines take the same syntax for what is allowed here, and mean the same characters, but for ``\\d``, ``\\w`` and
``\\s``: RE2 means ASCII, Rust all of Unicode. For Polars these are written out.
"""

import re

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
# What may stand behind a backslash: those, the same negated, control characters, and any sign as itself.
_ESCAPE = re.compile(
    r"\\(?:[dwsDWS]|[tnfr]|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}|[pP](?:[LMNPSZ]|\{[LMNPSZ][a-z]?\})|[!-/:-@\[-`{-~])"
)
_REPEAT = re.compile(r"[*+?]|\{(\d{1,9})(?:,(\d{0,9}))?\}")
_MOST_REPEATS = 100


def regular_expression(pattern: str) -> str:
    """The same pattern for Polars.

    Raises:
        ValueError: with what is not allowed; both engines would not match alike.
    """
    out: list[str] = []
    at, depth, repeatable = 0, 0, False
    while at < len(pattern):
        sign = pattern[at]
        repeat = _REPEAT.match(pattern, at)
        if sign == "\\":
            text, at = _escape(pattern, at, inside=False)
            repeatable = True
        elif sign == "[":
            text, at = _characters(pattern, at)
            repeatable = True
        elif repeat and repeatable:
            if any(int(n) > _MOST_REPEATS for n in repeat.groups() if n):
                raise ValueError(f"a part may repeat at most {_MOST_REPEATS} times")
            text, at, repeatable = repeat.group(), repeat.end(), False
            if pattern.startswith("?", at):
                text, at = text + "?", at + 1
        elif repeat or sign in "{}":
            raise ValueError(f"'{sign}' has nothing to repeat; '\\{sign}' matches the sign itself")
        elif sign == "(":
            text = "(?:" if pattern.startswith("(?:", at) else "("
            at, depth, repeatable = at + len(text), depth + 1, False
            if pattern.startswith("?", at):
                raise ValueError("'(?' is allowed as '(?:' only")
        elif sign == ")":
            text, at, depth, repeatable = ")", at + 1, depth - 1, True
            if depth < 0:
                raise ValueError("')' closes nothing")
        else:
            text, at, repeatable = sign, at + 1, sign not in "^$|"
        out.append(text)
    if depth:
        raise ValueError("'(' is not closed")
    return "".join(out)


def like(pattern: str) -> str:
    """The regular expression for Polars of a pattern of LIKE: ``%`` is any text, ``_`` one character."""
    return "(?s)^" + "".join({"%": ".*", "_": "."}.get(c, _literal(c)) for c in pattern) + "$"


def _literal(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"


def _escape(pattern: str, at: int, *, inside: bool) -> tuple[str, int]:
    found = _ESCAPE.match(pattern, at)
    if found is None:
        raise ValueError(f"'{pattern[at : at + 2]}' is not allowed; allowed are \\d \\w \\s, \\x41, \\p{{L}} and signs")
    text = found.group()
    if (kind := text[1]).lower() in _CLASSES:
        if inside and kind.isupper():
            raise ValueError(f"'{text}' is not allowed inside [ ]")
        characters = _CLASSES[kind.lower()]
        text = characters if inside else f"[{'^' if kind.isupper() else ''}{characters}]"
    elif text.startswith("\\x") and int(text[2:].strip("{}"), 16) > 0x10FFFF:
        raise ValueError(f"'{text}' is not a character")
    elif text in ("\\<", "\\>"):
        # Rust means the edges of a word.
        text = text[1]
    return text, found.end()


def _characters(pattern: str, at: int) -> tuple[str, int]:
    """The class of characters that begins at ``at``, and what comes behind it."""
    out, begin = ["["], at
    at += 1
    if pattern.startswith("^", at):
        out.append("^")
        at += 1
    first = at
    while at < len(pattern) and pattern[at] != "]":
        sign = pattern[at]
        if sign == "\\":
            text, at = _escape(pattern, at, inside=True)
        elif sign in "[&~" or (sign == "-" and at > first and pattern[at + 1 : at + 2] in ("-", "")):
            raise ValueError(f"'{sign}' inside [ ] is written '\\{sign}'")
        else:
            text, at = sign, at + 1
        out.append(text)
    if at >= len(pattern) or at == first:
        raise ValueError(f"'{pattern[begin:at]}' is not a class of characters; one is written [a-z]")
    return "".join(out) + "]", at + 1
