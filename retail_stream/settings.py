"""Settings come from the environment only, and a wrong one is one sentence.

Every service has a subclass of :class:`Connections` in its ``settings.py``; a field ``generator_sales_per_s`` is the
variable ``GENERATOR_SALES_PER_S``.
"""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from retail_stream.errors import SettingsError
from retail_stream.security import KafkaSecurity


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if not value.startswith(tuple(f"{s}://" for s in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return AfterValidator(check)


def _brokers(value: str) -> str:
    for broker in value.split(","):
        host, colon, port = broker.strip().rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("must be host:port, or several of them with commas between")
    return value


class Settings(BaseSettings):
    """Base of all settings: read from the environment, never from files."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)


class Connections(Settings, KafkaSecurity):
    """Where the three servers are, and how to speak to them."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_brokers), Field(description="host:port[,host:port]")]
    schema_registry_url: Annotated[str, _url("http", "https"), Field(description="an http(s):// URL")]
    database_url: Annotated[str, _url("postgresql", "postgres"), Field(description="a postgresql:// URL")]


#: Fields of :class:`Connections` that say where the servers are.
SERVERS = tuple(name for name in Connections.model_fields if name not in KafkaSecurity.model_fields)


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


def _sentence(settings: type[Settings], error: object) -> str:
    place, kind, message, given = (error[k] for k in ("loc", "type", "msg", "input"))  # type: ignore[index]
    if not place:  # it is about several of them, and says which
        return f"{message.removeprefix('Value error, ')}."
    name = str(place[0])
    field = settings.model_fields.get(name)
    allowed = f"; allowed: {field.description}" if field is not None and field.description else ""
    if kind == "missing":
        return f"{name.upper()} is not set{allowed}."
    why = message.removeprefix("Value error, ").removeprefix("Input should be ")
    why = why if why.startswith("must") else f"must be {why}"
    return f"{name.upper()}={given!r}: {why}{allowed}."
