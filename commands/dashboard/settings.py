"""Settings of the dashboard: addresses, services and the database user."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from retail_stream.service.metrics import Host, MetricsPort
from retail_stream.settings import Connections, postgres_url

_DEFAULT = "generator=127.0.0.1:9101,cleaner=127.0.0.1:9102,scd_merger=127.0.0.1:9103,aggregator=127.0.0.1:9104"


def _services(value: str) -> str:
    parse_services(value)
    return value


def parse_services(value: str) -> dict[str, tuple[str, int]]:
    """``name=host:port,…`` as name → (host, port).

    Raises:
        ValueError: an item has another form.
    """
    services: dict[str, tuple[str, int]] = {}
    for item in filter(None, map(str.strip, value.split(","))):
        name, equals, address = item.partition("=")
        host, colon, port = address.rpartition(":")
        if not (name and equals and host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"has the part {item!r}, which is not name=host:port")
        services[name] = (host, int(port))
    return services


def _hosts(value: str) -> str:
    parse_hosts(value)
    return value


def parse_hosts(value: str) -> list[str]:
    """Host names, separated by commas.

    Raises:
        ValueError: a name is empty, or has a ``*`` that is neither alone nor in front, as in ``*.example.com``.
    """
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if not name or (name != "*" and "*" in name.removeprefix("*.")):
            raise ValueError(f"has the part {name!r}, which is not a name, *.name or *")
    return names


def _own_url(value: str) -> str:
    return value and postgres_url(value)


class DashboardSettings(Connections):
    """Where the page is served and what it reads.

    ``dashboard_services``: where each service serves its health and metrics; every address of a name is one replica.
    ``dashboard_database_url``: of a user that may only read. Without it the sessions of ``database_url`` take the role
    ``retail_stream_reader``. ``dashboard_logs``: a folder with ``<service>.log``. The page shows the last line of a
    service that is down.
    """

    dashboard_host: Host = "127.0.0.1"
    dashboard_port: MetricsPort = 8080
    dashboard_services: Annotated[
        str,
        AfterValidator(_services),
        Field(description="name=host:port[,name=host:port], the host and METRICS_PORT of each service"),
    ] = _DEFAULT
    dashboard_database_url: Annotated[str, AfterValidator(_own_url), Field(description="a postgresql:// URL")] = ""
    dashboard_logs: Path | None = None
    dashboard_allowed_hosts: Annotated[
        str,
        AfterValidator(_hosts),
        Field(description="the names by which browsers may address the page, with commas between"),
    ] = "127.0.0.1,localhost"
