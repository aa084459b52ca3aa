"""Who takes part: each a program of its own that turns `sales.raw` into clean records and dead letters."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cleaner.world import CLEAN, DEAD, World
from benchmarks.peers import jars
from retail_stream.topics import Group

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
PEERS_PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"

#: the names that BENCH_ONLY takes
OURS, OURS_TWO, BARE, FAUST, QUIX, STREAMS, STREAMS_TWO = (
    "ours",
    "ours2",
    "bare",
    "faust",
    "quix",
    "streams",
    "streams2",
)


@dataclass(frozen=True)
class Contestant:
    """``commands``: one for each process; ``outputs``: topics of clean records and of dead letters."""

    name: str
    commands: list[list[str]]
    outputs: tuple[str, str]
    group: str


class Missing(Exception):
    """What a contestant needs is not on this machine."""


def contestant(name: str, w: World) -> Contestant:
    """A contestant, ready to start, with topics of its own.

    Raises:
        Missing: it cannot take part here.
    """
    return _CONTESTANTS[name][1](w)


def title(name: str) -> str:
    """What it is called in tables."""
    return _CONTESTANTS[name][0]


Maker = Callable[[World], Contestant]


def _ours(processes: int) -> Maker:
    command = [sys.executable, "-m", "services.cleaner"]
    return lambda w: Contestant("cleaner", [command] * processes, (CLEAN, DEAD), Group.CLEANER)


def _python(module: str, python: Path) -> Maker:
    def make(w: World) -> Contestant:
        if not python.exists():
            raise Missing("the peers' packages are not installed (make bench-cleaner does it)")
        given = w.arguments(module)
        command = [str(python), "-m", f"benchmarks.peers.{module}", given.text()]
        return Contestant(module, [command], (given.clean, given.dead), given.group)

    return make


def _streams(threads: int) -> Maker:
    def make(w: World) -> Contestant:
        compiler, java = shutil.which("javac"), shutil.which("java")
        if compiler is None or java is None:
            raise Missing("no JDK (javac) on the path")
        group = f"streams{threads}"
        given = w.arguments(group)
        path, classes = jars.class_path(), Path(given.state) / "classes"
        subprocess.run([compiler, "-cp", path, "-d", classes, PEERS / "CleanerStreams.java"], check=True)
        command = [java, "-Xmx1g", "-cp", f"{classes}:{path}", "CleanerStreams", given.servers, group, given.source]
        command += [given.clean, given.dead, given.schema_file, f"{given.state}/state", str(threads)]
        return Contestant(group, [command], (given.clean, given.dead), group)

    return make


_CONTESTANTS: dict[str, tuple[str, Maker]] = {
    OURS: ("cleaner", _ours(1)),
    BARE: ("bare confluent-kafka loop", _python("bare_loop", Path(sys.executable))),
    STREAMS: ("Kafka Streams, 1 thread", _streams(1)),
    OURS_TWO: ("cleaner, 2 processes", _ours(2)),
    STREAMS_TWO: ("Kafka Streams, 2 threads", _streams(2)),
    QUIX: ("Quix Streams", _python("quix", PEERS_PYTHON)),
    FAUST: ("Faust, stock", _python("stock_faust", PEERS_PYTHON)),
}
NAMES = tuple(_CONTESTANTS)
