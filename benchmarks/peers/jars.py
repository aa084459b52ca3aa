"""The Java peers' jars, locked in files beside this one; `python -m benchmarks.peers.jars` writes these anew."""

import hashlib
import sys
from pathlib import Path

from commands.embedded.downloads import cache_lock, fetch
from commands.embedded.java import class_path as joined
from commands.embedded.maven import Artifact, context, format_lock, read_lock
from commands.embedded.progress import download_bars
from commands.embedded.relock import KAFKA
from commands.embedded.settings import EmbeddedSettings

STREAMS, FLINK = "maven.lock", "flink.lock"
_AVRO = ("org.apache.avro", "avro", "1.12.1")
_QUIET = ("org.slf4j", "slf4j-nop", "1.7.36")
_ROOTS = {
    STREAMS: [("org.apache.kafka", "kafka-streams", KAFKA), _AVRO, _QUIET],
    FLINK: [
        ("org.apache.flink", "flink-streaming-java", "2.1.1"),
        ("org.apache.flink", "flink-clients", "2.1.1"),
        ("org.apache.flink", "flink-connector-base", "2.1.1"),
        ("org.apache.flink", "flink-connector-kafka", "4.0.1-2.0"),
        _AVRO,
        _QUIET,
    ],
}


def class_path(lock: str = STREAMS) -> str:
    """Of all jars of a lock file, downloaded if need be."""
    cache = EmbeddedSettings().cache
    with cache_lock(cache), download_bars() as progress:
        return joined(fetch(cache, read_lock(_locked(lock).read_text()), progress, print).values())


def main() -> None:
    """Resolve the roots and write the locks."""
    from jgo.maven import Dependency, PythonResolver

    maven = context(EmbeddedSettings().cache)
    for lock, wanted in _ROOTS.items():
        roots = [Dependency(maven.project(g, a).at_version(v).artifact(), raw=True) for g, a, v in wanted]
        inputs, transitive = PythonResolver().resolve(roots)
        entries = {}
        for found in [*inputs, *transitive]:
            artifact = Artifact(found.groupId, found.artifactId, "jar", "", found.version)
            with artifact.in_maven(maven).resolve().open("rb") as file:
                entries[artifact] = hashlib.file_digest(file, "sha256").hexdigest()
            sys.stderr.write(f"{artifact}\n")
        _locked(lock).write_text(format_lock(entries, "benchmarks.peers.jars"))


def _locked(lock: str) -> Path:
    return Path(__file__).with_name(lock)


if __name__ == "__main__":
    main()
