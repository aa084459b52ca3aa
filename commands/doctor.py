"""`make doctor`: what this machine lacks to run the pipeline. It needs nothing but Python.

It checks both ways to run the pipeline: without Docker (`make demo`, `make up`) and with it (`docker compose up`).
Exit code 0 if at least one is ready. If a registry is known, it names raw subjects whose mode is loose.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from commands.findings import GB, Finding, at_least, enough, version
from commands.raw_subjects import raw_subjects

ROOT = Path(__file__).resolve().parent.parent

PYTHON = (3, 11)
#: Docker and compose: for an optional env_file, and for !override in docker-compose.three-brokers.yml.
ENGINE, COMPOSE = (20, 10), (2, 24, 4)
#: Compose refuses to build with an older one.
BUILDX = (0, 17)
#: The containers use less than the sum of their memory limits at the default rates.
DOCKER_MEMORY, DOCKER_DISK = 3.5 * GB, 4 * GB
MEMORY, DISK = 2 * GB, 3 * GB
#: Variable → (default port, the server that uses it).
COMPOSE_PORTS = {
    "KAFKA_PORT": (29092, "Kafka"),
    "REGISTRY_PORT": (28081, "schema registry"),
    "POSTGRES_PORT": (25432, "Postgres"),
    "DASHBOARD_PORT": (8080, "the dashboard"),
}
#: Ports of optional parts: printed as hints if they are taken.
OPTIONAL_PORTS = {
    "PROMETHEUS_PORT": (9090, "Prometheus, with --profile observability"),
    "GRAFANA_PORT": (3000, "Grafana, with --profile observability"),
    "KAFKA_2_PORT": (29094, "the second of three brokers"),
    "KAFKA_3_PORT": (29095, "the third of three brokers"),
}
EMBEDDED_PORTS = {
    "RETAIL_STREAM_KAFKA_PORT": (29092, "Kafka"),
    "RETAIL_STREAM_KAFKA_CONTROLLER_PORT": (29093, "Kafka's controller"),
    "RETAIL_STREAM_REGISTRY_PORT": (28081, "schema registry"),
    "RETAIL_STREAM_REGISTRY_MANAGEMENT_PORT": (28082, "schema registry's management"),
    "RETAIL_STREAM_POSTGRES_PORT": (25432, "Postgres"),
}


def ports(
    wanted: Mapping[str, tuple[int, str]],
    env: Mapping[str, str],
    ours: Iterable[int] = (),
    where: str = "with",
    replaced: bool = False,
) -> Iterator[Finding]:
    """Check that each port on 127.0.0.1 is free, or one of ``ours``.

    ``env``: variables that choose other ports; ``where``: how to set them, for the cure. ``replaced``: a taken default
    port is a hint, because the program replaces it by a free one.
    """
    taken: dict[int, str] = {}
    for variable, (default, whose) in wanted.items():
        given = env.get(variable) or str(default)
        if not given.isdigit() or not 1024 <= int(given) <= 65535:
            yield Finding(False, f"{variable}={given}", "use a port number from 1024 to 65535")
            continue
        port = int(given)
        if other := taken.get(port):
            yield Finding(False, f"{variable}={port}", f"it is also the port of {other}; choose different ports")
        elif port in ours:
            yield Finding(True, f"port {port} ({whose}) is used by this pipeline, which is running")
        else:
            free, hint = is_free(port), replaced and not env.get(variable)
            cure = f"stop the program that listens there, or choose another port {where} {variable}=<port>"
            what = f"port {port} ({whose}) is {'free' if free else 'taken'}"
            yield Finding(free, what, "a free one will be used" if hint else cure, hint)
        taken[port] = variable


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def settings(path: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Variables as compose reads them: NAME=value lines of a file; the environment takes precedence."""
    lines = _LINE.findall(path.read_text()) if path.exists() else []
    return {**{name: quoted[1:-1] if quoted else value for name, quoted, value in lines}, **env}


_LINE = re.compile(
    r"""^[ \t]* (?:export[ \t]+)? (\w+) [ \t]*=[ \t]*
    (?: ("[^"\n]*"|'[^'\n]*') | ([^\n]*?) ) [ \t]* (?:(?<=[ \t])\#[^\n]*)? $""",
    re.MULTILINE | re.VERBOSE,
)


def unreadable(folder: Path) -> Finding:
    """Check that the users of containers can read, and run, the mounted files of the checkout."""
    strict = [
        str(path.relative_to(folder))
        for path in sorted((*folder.glob("docker/*"), *folder.glob("observability/**/*")))
        if ~path.stat().st_mode & (0o005 if path.suffix == ".sh" or path.is_dir() else 0o004)
    ]
    what = f"mounted files that containers cannot read: {', '.join(strict)}" if strict else "mounted files are readable"
    return Finding(not strict, what, "chmod -R a+rX docker observability; chmod a+x docker/*.sh")


def without_docker() -> list[Finding]:
    """Check what `make demo`, `make up` and `make test` need."""
    home = Path(os.environ.get("RETAIL_STREAM_CACHE") or Path.home())
    return [
        at_least("Python", ".".join(map(str, sys.version_info[:3])), PYTHON),
        Finding(_has_venv(), "Python's venv module", "install it (Debian: apt install python3-venv)"),
        Finding(shutil.which("make") is not None, "make", "install it"),
        enough("memory available", _memory(), MEMORY),
        enough(f"disk free for downloads and state ({home})", _disk(home), DISK),
        *ports(EMBEDDED_PORTS, os.environ, _embedded_ports(), replaced=True),
    ]


def with_docker() -> list[Finding]:
    """Check what `docker compose up` needs."""
    if shutil.which("docker") is None:
        return [Finding(False, "docker", "not installed; `make demo` works without it")]
    output = _run("docker", "info", "--format", "{{json .}}")
    info = json.loads(output) if output.startswith("{") else {}
    if not info.get("ServerVersion"):
        return [Finding(False, "Docker's daemon", "does not answer; start it, or get access to its socket")]
    findings = [at_least("Docker", info["ServerVersion"], ENGINE)]
    findings.append(at_least("docker compose", _run("docker", "compose", "version", "--short"), COMPOSE))
    findings.append(at_least("buildx", _buildx(), BUILDX))
    findings.append(unreadable(ROOT))
    findings.append(enough("memory for Docker", float(info.get("MemTotal") or 0), DOCKER_MEMORY))
    root = Path(info.get("DockerRootDir") or "/")
    # Docker Desktop's disk is inside its virtual machine, where it cannot be measured.
    if root.exists():
        findings.append(enough(f"disk free for Docker ({root})", _disk(root), DOCKER_DISK))
    chosen = settings(ROOT / ".env", os.environ)
    ours = _compose_ports(chosen.get("COMPOSE_PROJECT_NAME") or "retail-stream")
    findings.extend(ports(COMPOSE_PORTS, chosen, ours, "in .env with"))
    hints = ports(OPTIONAL_PORTS, chosen, ours, "in .env with")
    return [*findings, *(replace(f, hint=True) for f in hints if not f.good)]


def _buildx() -> str:
    """The version in ``github.com/docker/buildx v0.29.1 28f6246…``."""
    return next((word for word in _run("docker", "buildx", "version").split() if version(word)), "")


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _compose_ports(project: str) -> set[int]:
    """The ports that containers of a project publish now."""
    label = f"label=com.docker.compose.project={project}"
    published = _run("docker", "ps", "--filter", label, "--format", "{{.Ports}}")
    return {int(p) for p in (part.partition("->")[0].rpartition(":")[2] for part in published.split()) if p.isdigit()}


def _embedded_ports() -> set[int]:
    """The ports of the embedded stack if it runs, else none."""
    program = ROOT / ".venv" / "bin" / "python"
    code = """
from commands.embedded.home import Home
from commands.embedded.settings import EmbeddedSettings
chosen = EmbeddedSettings()
print(*(dict(chosen.ports).values() if Home(chosen.home).running() else ()))
"""
    return set(map(int, _run(str(program), "-c", code).split())) if program.exists() else set()


def _registry() -> str | None:
    """The registry that is configured, else that of the embedded stack if it runs."""
    if url := os.environ.get("SCHEMA_REGISTRY_URL"):
        return url.partition(",")[0].rstrip("/")
    default, _ = EMBEDDED_PORTS["RETAIL_STREAM_REGISTRY_PORT"]
    port = int(os.environ.get("RETAIL_STREAM_REGISTRY_PORT") or default)
    return f"http://127.0.0.1:{port}/apis/ccompat/v7" if port in _embedded_ports() else None


def _has_venv() -> bool:
    return bool(_run(sys.executable, "-c", "import ensurepip, venv; print('yes')"))


def _memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk(path: Path) -> float:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def main() -> int:
    """Print both lists and the modes of raw subjects of a known registry; returns 0 if at least one way is ready."""
    open_ways = []
    for way, findings in (("make demo (no Docker)", without_docker()), ("docker compose up", with_docker())):
        print(f"{way}\n" + "\n".join(map(str, findings)))
        missing = [f for f in findings if not f.good and not f.hint]
        print(f"  → {'ready' if not missing else f'not ready, {len(missing)} to fix'}\n")
        open_ways.append(not missing)
    if (registry := _registry()) and (modes := list(raw_subjects(registry))):
        print("schemas of other producers\n" + "\n".join(map(str, modes)) + "\n")
    return 0 if any(open_ways) else 1


if __name__ == "__main__":
    sys.exit(main())
