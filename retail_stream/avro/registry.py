"""The schema registry, over Confluent's REST API.

Every call has a time limit. Only the registry's own error codes mean "not registered". Any other answer, an HTML page
or a proxy's 404 included, raises :class:`Unavailable` with a sentence that names URL, status and what came instead.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import httpx2 as httpx

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.derived import self_contained
from retail_stream.avro.schema import AvroSchema
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.waiting import Wait, wait_for

_TIMEOUT_S = 5
_ACCEPT = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
#: of an unknown subject, version or schema id
_NOT_REGISTERED = (40401, 40402, 40403)
#: of a subject without a mode of its own
_NO_MODE = 40408
#: of a schema that breaks the subject's compatibility, or is not valid
_REFUSED = (409, 422)
_LOOPBACK = ("127.0.0.1", "localhost")
_INCLUDING_DELETED = "?deleted=true"


class SchemaRefused(RetailStreamError):
    """The registry does not take a schema: the sentence holds its reason."""


class Registry:
    """A thin client of a schema registry: register, list, look up."""

    def __init__(self, url: str) -> None:
        """``url``: base of the Confluent API, e.g. ``http://127.0.0.1:28081/apis/ccompat/v7``, or several with commas.

        A name and a password may stand before a host.
        """
        self._urls = [one.strip().rstrip("/") for one in url.split(",") if one.strip()]
        #: for messages: without name and password
        self.url = ",".join(map(_shown, self._urls))
        for one in self._urls:
            _past_proxies(one)
        self._http = httpx.Client(timeout=_TIMEOUT_S, headers=_ACCEPT)

    def register(self, subject: str, schema: AvroSchema, compatibility: str | None = None) -> int:
        """Register a schema under a subject and return its id. Idempotent. ``compatibility``: the mode to set before.

        Raises:
            SchemaRefused: the registry does not take the schema.
            Unavailable: it does not answer, or not as a registry does.
        """
        if compatibility is not None:
            self.set_mode(subject, compatibility)
        body = {"schema": json.dumps(schema)}
        try:
            return self._id("POST", f"subjects/{quote(subject, safe='')}/versions", body)
        except SchemaRefused:
            # Versions that others registered since do not matter for one that is there already.
            number = self._id("POST", f"subjects/{quote(subject, safe='')}", body, missing=-1)
            if number < 0:
                raise
            return number

    def mode(self, subject: str) -> str | None:
        """The compatibility mode of a subject, None where it has none of its own."""
        answer = self._ask("GET", f"config/{quote(subject, safe='')}", dict, missing={})
        mode: str | None = answer.get("compatibilityLevel")
        return mode

    def set_mode(self, subject: str, mode: str) -> None:
        """Set the compatibility mode of a subject."""
        self._ask("PUT", f"config/{quote(subject, safe='')}", dict, {"compatibility": mode})

    def versions(self, subject: str, known: Mapping[int, int] | None = None) -> dict[int, tuple[int, AvroSchema]]:
        """Versions of a subject beyond the known ones, deleted ones included: version → (schema id, schema).

        ``known``: version → schema id.

        Raises:
            Unavailable: the registry does not answer as one, or has lost a known version.
        """
        known = known or {}
        path = f"subjects/{quote(subject, safe='')}/versions"
        numbers = self._ask("GET", path + _INCLUDING_DELETED, list, missing=[])
        if known:
            self._require(subject, known, numbers)
        found: dict[int, tuple[int, AvroSchema]] = {}
        for number in sorted(set(numbers) - set(known)):
            if version := self._version(subject, number):
                found[number] = (version["id"], self._parsed(version))
        return found

    def _require(self, subject: str, known: Mapping[int, int], numbers: Iterable[int]) -> None:
        """Raise Unavailable where the registry no longer has the versions that it had."""
        missing = sorted(known.keys() - set(numbers))
        newest = max(known)
        if not missing and self._version(subject, newest).get("id") != known[newest]:
            missing = [newest]
        if missing:
            raise Unavailable(
                f"The schema registry at {self.url} no longer has version {missing[-1]} of {subject} that it had; "
                "restore its data, or restart this service if the version was deleted on purpose."
            )

    def _version(self, subject: str, number: int | str) -> dict[str, Any]:
        """A version of a subject, empty if there is none."""
        path = f"subjects/{quote(subject, safe='')}/versions/{number}{_INCLUDING_DELETED}"
        version: dict[str, Any] = self._ask("GET", path, dict, missing={}, wanted=("id", "schema"))
        return version

    def _parsed(self, version: Mapping[str, Any]) -> Any:
        """A schema as JSON, with the types of other subjects written out; its text where it is not JSON."""
        try:
            parsed = json.loads(version["schema"])
        except (ValueError, TypeError, RecursionError):
            return version["schema"]
        return self_contained(parsed, self._referenced(version)) if version.get("references") else parsed

    def _referenced(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Full name → schema, of all that a schema refers to and what those refer to in turn."""
        found: dict[str, Any] = {}
        for r in version.get("references") or ():
            if referred := self._version(r["subject"], r["version"]):
                found |= {r["name"]: referred["schema"], **self._referenced(referred)}
        return found

    def schema(self, number: int) -> AvroSchema | None:
        """The schema with an id, whatever its subject, or None if there is none.

        Raises:
            Unavailable: the registry does not answer as one.
        """
        answer = self._ask("GET", f"schemas/ids/{number}", dict, missing={}, wanted=("schema",))
        return json.loads(answer["schema"]) if answer else None

    def _id(self, method: str, path: str, body: Any, missing: int | None = None) -> int:
        known = None if missing is None else {"id": missing}
        number: int = self._ask(method, path, dict, body, missing=known, wanted=("id",))["id"]
        return number

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[Any],
        body: Any = None,
        *,
        missing: Any = None,
        wanted: Iterable[str] = (),
    ) -> Any:
        """The answer as JSON of a ``kind`` that has the keys ``wanted``; ``missing`` for what is not registered."""
        why: Exception | None = None
        for url in self._urls:
            try:
                response = self._http.request(method, f"{url}/{path}", json=body)
            except (httpx.HTTPError, OSError) as e:
                last, why = f"The schema registry at {_shown(url)} does not answer.", e
                continue
            answer = _json(response)
            if response.is_success and isinstance(answer, kind) and all(w in answer for w in wanted):
                return answer
            code = answer.get("error_code") if isinstance(answer, dict) else None
            if response.status_code == 404 and code in (*_NOT_REGISTERED, _NO_MODE) and missing is not None:
                return missing
            if response.status_code in _REFUSED and isinstance(code, int):
                raise SchemaRefused(f"The schema registry at {self.url} refuses the schema: {answer.get('message')}.")
            asked = f"{_shown(url)}/{path.removesuffix(_INCLUDING_DELETED)}"
            last, why = f"{asked} answers with HTTP {response.status_code} and {_came(response, answer)}.", None
        raise Unavailable(last) from why


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _came(response: httpx.Response, answer: Any) -> str:
    """What a registry does not answer, in words."""
    if isinstance(answer, dict) and "error_code" in answer:
        return f"the error {answer['error_code']}: {str(answer.get('message'))[:200]}"
    if response.is_redirect:
        return f"a redirect to {_shown(response.headers.get('Location', '')).partition('?')[0]}"
    if not response.content:
        return "an empty body"
    if "html" in response.headers.get("Content-Type", "") or response.content.lstrip()[:1] == b"<":
        return "an HTML page"
    return "JSON that is not a schema registry's" if answer is not None else "a body that is not JSON"


def _shown(url: str) -> str:
    """A URL without name and password."""
    return re.sub(r"//[^/]*@", "//", url, count=1)


def _past_proxies(url: str) -> None:
    """Ask a registry on this machine directly, despite http_proxy: the client reads the environment."""
    host, but = urlsplit(url).hostname, getproxies().get("no", "")
    if host in _LOOPBACK and but != "*" and host not in but.split(","):
        os.environ["no_proxy"] = f"{but},{host}".strip(",")


class SubjectSchemas:
    """The schemas of one subject, by id; fetched when an id is first seen."""

    def __init__(self, registry: Registry, subject: str, wait: Wait = wait_for) -> None:
        """``subject``: only ids that are registered under it are known.

        ``wait``: what waits for a registry that is away.
        """
        self._wait = wait
        self._registry = registry
        self._subject = subject
        self._versions: dict[int, int] = {}
        self._writers: dict[int, RecordSchema] = {}

    def get(self, ids: Iterable[int | None]) -> Mapping[int, RecordSchema]:
        """Schemas by id, at least those of ``ids`` that are registered. A registry that is away is waited for."""
        if any(i is not None and i not in self._writers for i in ids):
            self._wait(self._fetch)
        return self._writers

    def learn(self) -> None:
        """Fetch what is registered now, so that these schemas stay known if the registry goes away.

        Raises:
            Unavailable: it does not answer, or the subject has no schema because `retail-stream init` has not run.
        """
        self._fetch()
        if not self._writers:
            raise Unavailable(f"The registry has no schema of {self._subject} yet: `retail-stream init` registers it.")

    def _fetch(self) -> None:
        for version, (number, schema) in self._registry.versions(self._subject, self._versions).items():
            self._versions[version] = number
            self._writers[number] = RecordSchema(schema)
