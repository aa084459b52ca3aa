"""`docker compose up` as people run it: how long until healthy, how much memory, how large; are images reproducible?

CONTAINERS_SECONDS (60): of traffic, before memory is looked at and `verify` runs. BENCH_ONLY=images leaves the run out.
"""

import json
import os
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from commands.embedded.settings import Ports, free_ports

ROOT = Path(__file__).resolve().parent.parent
_PROJECT = "retail-stream-bench"
_SERVICES = ("generator", "cleaner", "scd_merger", "aggregator", "dashboard")
_UP_S, _MEMORY_MB = 60, 2000
_UNITS = {"GiB": 2**30 / 1e6, "MiB": 2**20 / 1e6, "KiB": 2**10 / 1e6}


def main() -> int:
    """Print the figures; 0 if healthy within 60 s, below 2 GB, verified, gone afterwards and reproducible."""
    console = Console(highlight=False)
    ports = Ports.free()
    env = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": _PROJECT,
        "KAFKA_PORT": str(ports.kafka),
        "REGISTRY_PORT": str(ports.registry),
        "POSTGRES_PORT": str(ports.postgres),
        "DASHBOARD_PORT": str(free_ports(1)[0]),
    }
    _compose(env, "build", "--quiet")
    same = _images(console)
    good = True if os.environ.get("BENCH_ONLY") == "images" else _run(env, console)
    return 0 if same and good else 1


def _run(env: dict[str, str], console: Console) -> bool:
    seconds = int(os.environ.get("CONTAINERS_SECONDS", "60"))
    try:
        began = time.monotonic()
        _compose(env, "up", "--detach", "--wait")
        up = time.monotonic() - began
        time.sleep(seconds)
        used = _memory(console)
        verified = _compose(env, "run", "--rm", "-T", "commands", "verify", check=False)
        console.print(verified.strip().splitlines()[-1])
    finally:
        began = time.monotonic()
        _compose(env, "down")
        down = time.monotonic() - began
        left = _docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={_PROJECT}")
        _compose(env, "down", "--volumes")
    console.print(
        f"healthy after {up:.1f} s (limit {_UP_S}); {used:,.0f} MB after {seconds} s of traffic "
        f"(limit {_MEMORY_MB:,}); "
        f"down in {down:.1f} s, {len(left.split())} containers left"
    )
    return up < _UP_S and used < _MEMORY_MB and "checks passed" in verified and not left


def _memory(console: Console) -> float:
    """In MB, of all containers of the project together."""
    table = Table("container", "memory", "limit", "share of the limit")
    total = 0.0
    ids = _docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={_PROJECT}").split()
    for line in sorted(_docker("stats", "--no-stream", "--format", "{{.Name}}|{{.MemUsage}}", *ids).splitlines()):
        name, _, usage = line.partition("|")
        used, limit = (_megabytes(part) for part in usage.split("/"))
        total += used
        table.add_row(name.removeprefix(f"{_PROJECT}-"), f"{used:,.0f} MB", f"{limit:,.0f} MB", f"{used / limit:.0%}")
    console.print(table)
    return total


def _megabytes(text: str) -> float:
    unit = text.strip()[-3:]
    return float(text.strip()[:-3]) * _UNITS[unit]


def _images(console: Console) -> bool:
    """Sizes, and whether an image that is built anew without any cache has the layers that it had."""
    images = [json.loads(_docker("image", "inspect", f"{_PROJECT}/{service}"))[0] for service in _SERVICES]
    table = Table("image", "size", "layers", "user")
    for service, image in zip(_SERVICES, images, strict=True):
        layers = len(image["RootFS"]["Layers"])
        table.add_row(service, f"{image['Size'] / 1e6:,.0f} MB", str(layers), image["Config"]["User"])
    console.print(table)
    shared = len({tuple(image["RootFS"]["Layers"]) for image in images}) == 1
    python = json.loads(_docker("compose", "config", "--format", "json"))["x-images"]["python"]
    tag = f"{_PROJECT}-again"
    arguments = ("--build-arg", f"PYTHON={python}", "--build-arg", f"SERVICE={_SERVICES[-1]}")
    _docker("buildx", "build", "--load", "--no-cache", "--quiet", *arguments, "--tag", tag, str(ROOT))
    again = json.loads(_docker("image", "inspect", tag))[0]["RootFS"]["Layers"]
    _docker("image", "rm", tag)
    was = images[-1]["RootFS"]["Layers"]
    equal = sum(one == other for one, other in zip(was, again, strict=False))
    those = "all" if shared else "not all"
    console.print(f"the {len(images)} share {those} layers; built again without cache: {equal} of {len(was)} are equal")
    return shared and was == again


def _compose(env: dict[str, str], *arguments: str, check: bool = True) -> str:
    command = ["docker", "compose", "--progress", "quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, check=check, stdout=subprocess.PIPE, text=True).stdout


def _docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
