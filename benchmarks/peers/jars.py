"""The Java peers' jars: locked in `maven.lock` beside this file; `python -m benchmarks.peers.jars` writes it anew."""

import hashlib
import sys
from pathlib import Path

from retail_stream.embedded.downloads import cache_lock, fetch
from retail_stream.embedded.java import class_path as joined
from retail_stream.embedded.maven import Artifact, context, format_lock, read_lock
from retail_stream.embedded.progress import download_bars
from retail_stream.embedded.relock import KAFKA
from retail_stream.embedded.settings import EmbeddedSettings

LOCK_FILE = Path(__file__).with_name("maven.lock")
_ROOTS = [
    ("org.apache.kafka", "kafka-streams", KAFKA),
    ("org.apache.avro", "avro", "1.12.1"),
    ("org.slf4j", "slf4j-nop", "1.7.36"),
]


def class_path() -> str:
    """Of all jars, downloaded if need be."""
    cache = EmbeddedSettings().cache
    with cache_lock(cache), download_bars() as progress:
        return joined(fetch(cache, read_lock(LOCK_FILE.read_text()), progress, print).values())


def main() -> None:
    """Resolve the roots and write the lock."""
    from jgo.maven import Dependency, PythonResolver

    maven = context(EmbeddedSettings().cache)
    roots = [Dependency(maven.project(g, a).at_version(v).artifact(), raw=True) for g, a, v in _ROOTS]
    inputs, transitive = PythonResolver().resolve(roots)
    entries = {}
    for found in [*inputs, *transitive]:
        artifact = Artifact(found.groupId, found.artifactId, "jar", "", found.version)
        with artifact.in_maven(maven).resolve().open("rb") as file:
            entries[artifact] = hashlib.file_digest(file, "sha256").hexdigest()
        sys.stderr.write(f"{artifact}\n")
    LOCK_FILE.write_text(format_lock(entries))


if __name__ == "__main__":
    main()
