"""The files of the servers: their Maven coordinates, their checksums, and a Maven client.

`maven.lock` holds one line for each: `group:artifact:packaging[:classifier]:version sha256`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jgo.maven import Artifact as MavenArtifact
    from jgo.maven import MavenContext

LOCK_FILE = Path(__file__).with_name("maven.lock")
APICURIO_GROUP = "io.apicurio"

# Called with a file's name and size in bytes; the yielded function is called with the size of each received chunk.
ProgressCallback = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, order=True)
class Artifact:
    """One file of a Maven repository."""

    group: str
    name: str
    packaging: str
    classifier: str
    version: str

    def __str__(self) -> str:
        parts = [self.group, self.name, self.packaging, self.classifier, self.version]
        return ":".join(part for part in parts if part)

    @classmethod
    def parse(cls, text: str) -> Artifact:
        group, name, packaging, *classifier, version = text.split(":")
        return cls(group, name, packaging, classifier[0] if classifier else "", version)

    @property
    def path(self) -> str:
        """The path of the file below the root of a Maven repository."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        folder = self.group.replace(".", "/")
        return f"{folder}/{self.name}/{self.version}/{self.name}-{self.version}{suffix}.{self.packaging}"

    def in_maven(self, maven: MavenContext) -> MavenArtifact:
        component = maven.project(self.group, self.name).at_version(self.version)
        return component.artifact(classifier=self.classifier, packaging=self.packaging)


def read_lock(text: str) -> dict[Artifact, str]:
    """The artifacts of a lock file with the sha256 of each, in hex."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {Artifact.parse(coordinates): sha256 for coordinates, sha256 in lines}


def format_lock(entries: dict[Artifact, str], program: str = "commands.embedded.relock") -> str:
    """The text of a lock file that ``program`` writes; `read_lock` is the inverse."""
    lines = [f"{artifact} {sha256}" for artifact, sha256 in sorted(entries.items())]
    return "\n".join([f"# Written by python -m {program}", *lines, ""])


def repository(cache: Path) -> Path:
    """The Maven repository inside our cache directory."""
    return cache / "maven"


def context(cache: Path, progress: ProgressCallback | None = None) -> MavenContext:
    """A Maven client that stores into our cache; mirrors come from jgo's own configuration file, if there is one."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext, PythonResolver
    from jgo.maven._core import DEFAULT_REMOTE_REPOS

    return MavenContext(
        repo_cache=repository(cache),
        resolver=PythonResolver(progress_callback=progress),
        remote_repos={**GlobalSettings.load().repositories, **DEFAULT_REMOTE_REPOS},
        timeout=30,
    )
