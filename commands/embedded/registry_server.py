"""Apicurio Registry with the Confluent API, stored in its own database of the embedded Postgres."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from commands.embedded import java
from commands.embedded.errors import BrokenDownload
from commands.embedded.servers import PLAIN_ENVIRONMENT, Launch
from commands.embedded.settings import LOOPBACK, Ports

CONFLUENT_API = "/apis/ccompat/v7"
DATABASE = "registry"


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack into `directory`, unless every file there has its size and time of an earlier unpacking."""
    listing = directory.with_name(directory.name + ".json")
    try:
        if json.loads(listing.read_text()) == _files(directory):
            return directory
    except (OSError, ValueError):
        pass
    fresh = directory.with_name(directory.name + ".new")
    for old in (fresh, directory):
        shutil.rmtree(old, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            _extract(tar, member, fresh)
    fresh.rename(directory)
    listing.write_text(json.dumps(_files(directory)))
    return directory


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    # Not extractall: its filter="data" needs Python 3.11.4, and some systems have an older 3.11.
    target = directory / member.name
    inside = not Path(member.name).is_absolute() and ".." not in Path(member.name).parts
    if member.isdir() and inside:
        target.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member) if member.isfile() and inside else None
    if source is None:
        raise BrokenDownload(f"The registry's archive holds {member.name}, which is not a plain file inside it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _files(directory: Path) -> dict[str, list[int]]:
    entries = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            entries[os.path.relpath(os.path.join(folder, name), directory)] = [status.st_size, status.st_mtime_ns]
    return entries


def postgres_storage(ports: Ports, user: str, password: str) -> dict[str, str]:
    """Settings that keep the schemas in `DATABASE`; without them, schemas are in memory."""
    return {
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{LOOPBACK}:{ports.postgres}/{DATABASE}",
        "APICURIO_DATASOURCE_USERNAME": user,
        "APICURIO_DATASOURCE_PASSWORD": password,
        # The defaults, 20 to 100, would use up Postgres's 100 connections.
        "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
    }


def launch(directory: Path, ports: Ports, program: Path, storage: Mapping[str, str], aot: str) -> Launch:
    """How to start the registry; `aot` is an option of `java.reading` or `java.writing`."""
    settings = {
        "QUARKUS_HTTP_HOST": LOOPBACK,
        "QUARKUS_HTTP_PORT": str(ports.registry),
        # The default is every interface.
        "QUARKUS_MANAGEMENT_HOST": LOOPBACK,
        "QUARKUS_MANAGEMENT_PORT": str(ports.registry_management),
        "QUARKUS_LOG_LEVEL": "WARN",
        "QUARKUS_LOG_CONSOLE_JSON_ENABLED": "false",
    }
    tmp = directory / "tmp"
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    logging = "-Djava.util.logging.manager=org.jboss.logmanager.LogManager"
    argv = java.command(aot, "512m", tmp, logging, "-jar", program / "quarkus-run.jar")
    return Launch(argv, env={**PLAIN_ENVIRONMENT, **settings, **storage}, cwd=directory)


def is_ready(ports: Ports) -> bool:
    """Whether the Confluent API lists its subjects."""
    # Not urllib, which would use a proxy of the caller's environment. After a cold start about one request in twenty is
    # never answered, so each gets a short timeout, and the caller repeats it.
    connection = http.client.HTTPConnection(LOOPBACK, ports.registry, timeout=2)
    try:
        connection.request("GET", f"{CONFLUENT_API}/subjects")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
