"""The compatibility modes of raw subjects, for `make doctor`. It needs nothing but Python."""

import json
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import ProxyHandler, Request, build_opener

from commands.findings import Finding
from retail_stream.avro.compatibility import COSTS, STRICTEST, UNKNOWN_COST
from retail_stream.entities import Entity

_TIMEOUT_S = 3


def raw_subjects(url: str) -> Iterator[Finding]:
    """A finding for each raw subject that the registry has; all are hints, as the pipeline runs with any mode.

    ``url``: base of the registry's API; a name and a password may stand before its host.
    """
    scheme, _, rest = url.partition("://")
    secret, _, host = rest.rpartition("@")
    base, headers = f"{scheme}://{host}", {"Accept": "application/json"}
    if secret:
        headers["Authorization"] = f"Basic {b64encode(unquote(secret).encode()).decode()}"
    for entity in Entity:
        subject = f"{entity}.raw-value"
        try:
            if not _answer(f"{base}/subjects/{subject}/versions", headers):
                continue
            own = _answer(f"{base}/config/{subject}", headers) or _answer(f"{base}/config", headers) or {}
            mode = str(own.get("compatibilityLevel"))
        except (OSError, ValueError, HTTPException, AttributeError) as e:
            yield Finding(False, f"registry at {base}", f"the modes of subjects are unknown: {e}", hint=True)
            return
        cure = f"{COSTS.get(mode, UNKNOWN_COST)}; `retail-stream init` sets {STRICTEST}"
        yield Finding(mode == STRICTEST, f"{subject} has the compatibility mode {mode}", cure, hint=True)


def _answer(url: str, headers: dict[str, str]) -> Any:
    """The JSON of an answer, None for 404."""
    try:
        # Without a proxy: the registry is on this machine, or in reach of the person who asks.
        with build_opener(ProxyHandler({})).open(Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as e:
        if e.code == 404:
            return None
        raise
