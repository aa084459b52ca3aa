"""`python -m commands.embedded.relock`: write `maven.lock` after a version below was changed.

It resolves the coordinates below and their dependencies, downloads them into the cache and records each sha256.
"""

from __future__ import annotations

import hashlib
import sys

from commands.embedded.maven import LOCK_FILE, Artifact, context, format_lock
from commands.embedded.settings import EmbeddedSettings

KAFKA = "4.3.1"
LOG4J = "2.25.4"
APICURIO = "3.3.3"
ROOTS = [
    ("org.apache.kafka", "kafka_2.13", KAFKA),
    # 4.4.0 has no kafka-tools.
    ("org.apache.kafka", "kafka-tools", KAFKA),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
]
# What kafka-tools pulls in for Kafka Connect only; neither the broker nor the tools given to people load it.
CONNECT_ONLY = (
    "com.fasterxml.jackson.jakarta",
    "com.fasterxml.jackson.module",
    "com.sun.activation",
    "commons-beanutils",
    "commons-collections",
    "commons-digester",
    "commons-logging",
    "io.github.classgraph",
    "io.swagger",
    "jakarta.",
    "javax.",
    "org.apache.kafka:connect-",
    "org.apache.maven",
    "org.codehaus.plexus",
    "org.eclipse.jetty",
    "org.glassfish",
    "org.javassist",
)


def main() -> None:
    from jgo.maven import Dependency, PythonResolver

    maven = context(EmbeddedSettings().cache)
    # raw: a root's dependencyManagement must not manage the others (log4j's would bring an old kafka-clients).
    roots = [
        Dependency(maven.project(group, name).at_version(version).artifact(), raw=True)
        for group, name, version in ROOTS
    ]
    inputs, transitive = PythonResolver().resolve(roots)
    wanted = [
        Artifact(dep.groupId, dep.artifactId, "jar", "", dep.version)
        for dep in [*inputs, *transitive]
        if not f"{dep.groupId}:{dep.artifactId}".startswith(CONNECT_ONLY)
    ]
    wanted.append(Artifact("io.apicurio", "apicurio-registry-app", "tar.gz", "all", APICURIO))
    entries = {}
    for artifact in wanted:
        with artifact.in_maven(maven).resolve().open("rb") as file:
            entries[artifact] = hashlib.file_digest(file, "sha256").hexdigest()
        sys.stderr.write(f"{artifact}\n")
    LOCK_FILE.write_text(format_lock(entries))


if __name__ == "__main__":
    main()
