"""Answers over HTTP as JSON."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.responses import Response


def sentence(status: int, why: str) -> Response:
    """An error: ``{"error": why}``."""
    return as_json({"error": why}, status)


def as_json(content: Any, status: int = 200) -> Response:
    """Times in ISO 8601; decimals as text."""
    return Response(_text(content), status, media_type="application/json")


def event(name: str, content: Any) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {_text(content)}\n\n".encode()


def _text(content: Any) -> str:
    return json.dumps(content, default=_plain, allow_nan=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A string keeps every digit; a float would not.
        return str(value)
    raise TypeError(f"{type(value)} cannot be written as JSON")
