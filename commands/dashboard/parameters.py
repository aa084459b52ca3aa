"""Parameters of a request: each is checked, and a wrong one is one sentence."""

import unicodedata
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from retail_stream.entities import Entity

_LONGEST = 100


def parse_entity(name: str, allowed: Iterable[Entity]) -> Entity:
    """The entity of that name.

    Raises:
        HTTPException: 404, with the allowed names.
    """
    for entity in allowed:
        if entity.value == name:
            return entity
    raise HTTPException(404, f"{shown(name)} is not an entity of this path; allowed: {', '.join(allowed)}.")


def parse_int(written: str, name: str, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``.

    Raises:
        HTTPException: 400, with the allowed range.
    """
    digits = written.removeprefix("-")
    number = int(written) if digits.isascii() and digits.isdigit() and len(digits) <= 16 else None
    if number is None or not least <= number <= most:
        raise HTTPException(
            400, f"{name}={shown(written)} is not valid; allowed: a whole number from {least} to {most}."
        )
    return number


def parse_text(request: Request, name: str) -> str:
    """A text parameter of the query; empty if it is not given.

    Raises:
        HTTPException: 400, if it is too long or has control characters; Postgres takes no U+0000.
    """
    written = request.query_params.get(name, "").strip()
    # Joiners, which Persian and emoji need, are not "printable"; control characters and halves of pairs are refused.
    if len(written) > _LONGEST or any(unicodedata.category(c) in ("Cc", "Cs", "Cn", "Zl", "Zp") for c in written):
        raise HTTPException(
            400, f"{name}={shown(written)} is not valid; allowed: up to {_LONGEST} printable characters."
        )
    return written


def only_parameters(request: Request, *names: str) -> None:
    """Refuse query parameters that would be ignored.

    Raises:
        HTTPException: 400, if the query has other names, or a name twice.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if strange := [n for n in given if n not in names or given.count(n) > 1]:
        allowed = ", ".join(names) or "none"
        raise HTTPException(400, f"Query parameter {shown(strange[0])} is not valid; allowed, once each: {allowed}.")


def shown(written: str) -> str:
    """Of text that a sentence quotes, as much as is needed."""
    return repr(written if len(written) <= 40 else f"{written[:40]}…")
