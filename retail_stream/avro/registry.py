"""The schema registry, over Confluent's REST API.

Every call has a time limit. A registry that does not answer raises :class:`Unavailable`, which does not mean "no such
schema".
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2 as httpx
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.derived import self_contained
from retail_stream.avro.schema import AvroSchema
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.waiting import Wait, wait_for

_TIMEOUT_S = 5
_NOT_FOUND = 404
#: of a schema that breaks the subject's compatibility, or is not valid
_REFUSED = (409, 422)
_LOOPBACK = ("127.0.0.1", "localhost")
_NONE = object()


class SchemaRefused(RetailStreamError):
    """The registry does not take a schema: the sentence holds its reason."""


class Registry:
    """A thin client of a schema registry: register, list, look up."""

    def __init__(self, url: str) -> None:
        """``url``: base of the Confluent API, e.g. ``http://127.0.0.1:28081/apis/ccompat/v7``.

        A name and a password may stand before its host.
        """
        #: for messages: without name and password
        self.url = re.sub(r"//[^/@]*@", "//", url, count=1)
        _past_proxies(url)
        self._client = SchemaRegistryClient({"url": url, "timeout": _TIMEOUT_S, "max.retries": 1})

    def register(self, subject: str, schema: AvroSchema, compatibility: str = "BACKWARD") -> int:
        """Register a schema under a subject, whose compatibility this sets; returns its id. Idempotent.

        Raises:
            SchemaRefused: the registry does not take the schema.
            RetailStreamError: it refuses the request.
            Unavailable: it does not answer.
        """

        def call() -> int:
            self._client.set_compatibility(subject_name=subject, level=compatibility)
            number: int = self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
            return number

        number: int = self._ask(call, None, f"refuses a schema for {subject}")
        return number

    def versions(self, subject: str, known: Iterable[int] = ()) -> dict[int, tuple[int, AvroSchema]]:
        """Versions of a subject beyond the ``known`` version numbers: version → (schema id, schema)."""
        numbers = self._ask(lambda: self._client.get_versions(subject), [], f"cannot list {subject}")
        found: dict[int, tuple[int, AvroSchema]] = {}
        for number in sorted(set(numbers) - set(known)):
            version = self._ask(lambda n=number: self._client.get_version(subject, n), None, f"cannot read {subject}")
            if version is not None:
                found[number] = (version.schema_id, self._parsed(version.schema))
        return found

    def _parsed(self, schema: Schema) -> Any:
        """A schema as JSON, with the types of other subjects written out; its text where it is not JSON."""
        try:
            parsed = json.loads(schema.schema_str or "")
        except ValueError:
            return schema.schema_str
        return self_contained(parsed, self._referenced(schema)) if schema.references else parsed

    def _referenced(self, schema: Schema) -> dict[str, Any]:
        """Full name → schema, of all that a schema refers to and what those refer to in turn."""
        found: dict[str, Any] = {}
        for r in schema.references or ():
            what = f"cannot read {r.subject}"
            version = self._ask(lambda r=r: self._client.get_version(r.subject, r.version), None, what)
            found |= {r.name: version.schema.schema_str, **self._referenced(version.schema)}
        return found

    def schema(self, number: int) -> AvroSchema | None:
        """The schema with an id, whatever its subject, or None if there is none.

        Raises:
            Unavailable: the registry does not answer.
        """
        found = self._ask(lambda: self._client.get_schema(number), _NONE, f"cannot read schema {number}")
        return None if found is _NONE else json.loads(found.schema_str)

    def _ask(self, call: Any, missing: Any, what: str) -> Any:
        try:
            return call()
        except SchemaRegistryError as e:
            if e.http_status_code == _NOT_FOUND and missing is not None:
                return missing
            if 400 <= e.http_status_code < 500 and e.http_status_code != 429:
                refusal = SchemaRefused if e.http_status_code in _REFUSED else RetailStreamError
                raise refusal(f"The schema registry at {self.url} {what}: {e.error_message}.") from e
            raise Unavailable(f"The schema registry at {self.url} answers with HTTP {e.http_status_code}.") from e
        except (httpx.HTTPError, OSError) as e:
            raise Unavailable(f"The schema registry at {self.url} does not answer.") from e


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
        self._versions: set[int] = set()
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
            self._versions.add(version)
            self._writers[number] = RecordSchema(schema)
