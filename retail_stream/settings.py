"""Settings come from the environment only, and a wrong one is one sentence.

Every service has a subclass of :class:`Connections` in its ``settings.py``; a field ``generator_sales_per_s`` is the
variable ``GENERATOR_SALES_PER_S``.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from retail_stream.errors import SettingsError
from retail_stream.security import KafkaSecurity


def _url(*schemes: str) -> AfterValidator:
    starts = [f"{s}://" for s in schemes]

    def check(value: str) -> str:
        if not value.startswith(tuple(starts)):
            raise ValueError(f"does not start with {' or '.join(starts)}")
        return value

    return AfterValidator(check)


def _brokers(value: str) -> str:
    for broker in value.split(","):
        host, colon, port = broker.strip().rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"has the part {broker!r}, which is not host:port")
    return value


class Settings(BaseSettings):
    """Base of all settings: read from the environment, never from files.

    A field that can be wrong has a description of what is allowed. A validator raises ValueError with what is wrong,
    as a predicate ("has no port"); one of the whole model raises it with a sentence that names the variables.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True)


class Connections(Settings, KafkaSecurity):
    """Where the three servers are, and how to speak to them."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_brokers), Field(description="host:port[,host:port]")]
    schema_registry_url: Annotated[str, _url("http", "https"), Field(description="an http:// or https:// URL")]
    database_url: Annotated[str, _url("postgresql", "postgres"), Field(description="a postgresql:// URL")]
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
    """A URL may hold a name and a password before its last @."""
    return re.sub(r"^(\w+://)?.*@", r"\1***@", value) if isinstance(value, str) else value
