"""Settings come from the environment only, and a wrong one is one sentence.

Every service has a subclass of :class:`Connections` in its ``settings.py``; a field ``generator_sales_per_s`` is the
variable ``GENERATOR_SALES_PER_S``.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from retail_stream.errors import SettingsError
from retail_stream.security import KafkaSecurity


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("does not start with http:// or https://")
    return value


def postgres_url(value: str) -> str:
    """A URL that libpq reads, checked.

    Raises:
        ValueError: what is wrong, as a predicate and without any part of the URL, which may be a password.
    """
    if not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("does not start with postgresql:// or postgres://")
    try:
        parts = conninfo_to_dict(value)
    except ProgrammingError as e:
        raise ValueError(f"is not a URL that libpq reads ({_QUOTED.sub('', str(e)).strip(' :')})") from None
    ports = [port for port in str(parts.get("port") or "").split(",") if port]
    if not all(port.isdecimal() and 0 < int(port) < 65536 for port in ports):
        raise ValueError("has a port that is not a number from 1 to 65535")
    if len(ports) > 1 and len(ports) != len(str(parts.get("host", "")).split(",")):
        raise ValueError("does not name one port for each host")
    return value


_QUOTED = re.compile(r'"[^"]*"|\s+in URI.*', re.DOTALL)


def _brokers(value: str) -> str:
    """The brokers with commas between; blanks, line ends and the scheme of a listener, ``PLAINTEXT://``, go."""
    brokers = [broker.strip().removeprefix("PLAINTEXT://") for broker in value.split(",")]
    for broker in brokers:
        host, colon, port = broker.rpartition(":")
        if not (colon and re.fullmatch(r"[^\s/]+", host) and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"has the part {broker!r}, which is not host:port")
    return ",".join(brokers)


class Settings(BaseSettings):
    """Base of all settings: read from the environment, never from files.

    A field that can be wrong has a description of what is allowed. A validator raises ValueError with what is wrong,
    as a predicate ("has no port"); one of the whole model raises it with a sentence that names the variables.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True)


class Connections(Settings, KafkaSecurity):
    """Where the three servers are, and how to speak to them."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_brokers), Field(description="host:port[,host:port]")]
    schema_registry_url: Annotated[str, AfterValidator(_http_url), Field(description="an http:// or https:// URL")]
    database_url: Annotated[str, AfterValidator(postgres_url), Field(description="a postgresql:// URL")]
    #: Partitions of a killed worker go to others after this many seconds.
    kafka_session_timeout_s: Annotated[
        float, Field(ge=1, le=30, allow_inf_nan=False, description="seconds from 1 to 30")
    ] = 10.0

    @property
    def kafka_heartbeat_s(self) -> float:
        """Seconds between two signs of life to the group's coordinator: five come within a session timeout."""
        return self.kafka_session_timeout_s / 5


#: Fields of :class:`Connections` that say where the servers are.
SERVERS = ("kafka_bootstrap_servers", "schema_registry_url", "database_url")


S = TypeVar("S", bound=Settings)


def load(settings: type[S]) -> S:
    """Read ``settings`` from the environment.

    Raises:
        SettingsError: one sentence for each variable that is missing or wrong.
    """
    try:
        return settings()
    except ValidationError as e:
        raise SettingsError(" ".join(_sentence(settings, error) for error in e.errors())) from None


#: What is wrong with a value, by pydantic's type of error and with its context.
WRONG: Final[Mapping[str, str]] = {
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is out of range",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "greater_than_equal": "is out of range",
    "less_than_equal": "is out of range",
    "less_than": "is out of range",
    "datetime_from_date_parsing": "is not a valid time",
    "datetime_parsing": "is not a valid time",
    "timezone_aware": "has no time zone",
    "string_pattern_mismatch": "is empty or contains a space",
    "enum": "is not a known value",
    "literal_error": "is not a known value",
    "value_error": "{error}",
}


def _sentence(settings: type[Settings], error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    if not error["loc"]:
        return f"{context['error']}."
    name = str(error["loc"][0])
    description = settings.model_fields[name].description
    allowed = f"; allowed: {description}" if description else ""
    if error["type"] == "missing":
        return f"{name.upper()} is not set{allowed}."
    wrong = WRONG.get(error["type"], "is not valid").format_map(context)
    return f"{name.upper()}={_without_password(error['input'])!r} {wrong}{allowed}."


def _without_password(value: object) -> object:
    """A URL may hold a name and a password before its last @, and passwords among its parameters."""
    if not isinstance(value, str):
        return value
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", re.sub(r"^(\w+://)?.*@", r"\1***@", value))
