"""Answers over HTTP as JSON."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.responses import Response


def sentence(status: int, why: str) -> Response:
    """An error: ``{"error": why}``."""
    return as_json({"error": why}, status)


def as_json(content: Any, status: int = 200) -> Response:
    """An answer; see :func:`written`."""
    return Response(written(content), status, media_type="application/json")


def event(name: str, content: bytes) -> bytes:
    """A server-sent event. ``content``: JSON, on one line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), content)


def cut(row: Mapping[str, Any], longest: Mapping[str, int]) -> dict[str, Any]:
    """A row whose long values are the beginning of their JSON text. ``cut``: how long each of them was, in characters.

    ``longest``: characters of a field that are kept.
    """
    texts = {n: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for n, v in row.items() if n in longest}
    long = {name: len(text) for name, text in texts.items() if len(text) > longest[name]}
    return {**row, **{name: f"{texts[name][: longest[name]]}…" for name in long}, "cut": long}


def written(content: Any) -> bytes:
    """Times in ISO 8601; decimals as text."""
    return json.dumps(content, default=_plain, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A string keeps every digit; a float would not.
        return str(value)
    raise TypeError(f"{type(value)} cannot be written as JSON")
