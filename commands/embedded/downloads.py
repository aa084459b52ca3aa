"""Download the files of `maven.lock` into the cache, and check each file against its checksum.

A checked file is remembered by its size and modification time. A later start compares these in milliseconds, and reads
only the files that have changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt, wait_exponential

from commands.embedded.errors import BrokenDownload, EmbeddedError
from commands.embedded.maven import Artifact, ProgressCallback, context, repository

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_ATTEMPTS = 5
_PARALLEL = 4


@contextlib.contextmanager
def cache_lock(cache: Path) -> Iterator[None]:
    """Hold the lock of the cache: one process at a time changes it."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        file = (cache / "lock").open("w")
    except OSError as error:
        raise EmbeddedError(
            f"RETAIL_STREAM_CACHE={cache} cannot be written ({error.strerror}); choose another directory."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(
    cache: Path, lock: dict[Artifact, str], progress: ProgressCallback, say: Callable[[str], None]
) -> dict[Artifact, Path]:
    """Download missing artifacts of `lock`, and check all; returns the path of each. Call it under `cache_lock`.

    Raises BrokenDownload if a file has a wrong checksum, EmbeddedError if a download fails; both name the file.
    """
    seen = _Seen(cache / "checked.json")
    paths = {artifact: repository(cache) / artifact.path for artifact in lock}
    for artifact, path in paths.items():
        if path.exists() and not seen.knows(path, lock[artifact]):
            try:
                check(path, lock[artifact])
            except BrokenDownload as error:
                say(f"{error} It will be downloaded again.")
            else:
                seen.add(path, lock[artifact])
    missing = [artifact for artifact, path in paths.items() if not path.exists()]
    if missing:
        stopping = threading.Event()
        maven = context(cache, _until(stopping, progress))
        with ThreadPoolExecutor(_PARALLEL) as pool:
            downloads = [pool.submit(_download, maven, artifact, lock[artifact]) for artifact in missing]
            for artifact, download in zip(missing, downloads, strict=True):
                try:
                    download.result()
                except BaseException:
                    stopping.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                seen.add(paths[artifact], lock[artifact])
    seen.save()
    return paths


def check(path: Path, sha256: str) -> None:
    """Raise BrokenDownload and remove the file unless it has the checksum."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        path.unlink()
        raise BrokenDownload(f"{path} was removed: its sha256 is {actual}, but maven.lock has {sha256}.")


def _until(stopping: threading.Event, progress: ProgressCallback) -> ProgressCallback:
    """The same progress, but a download ends at its next chunk once `stopping` is set."""

    @contextlib.contextmanager
    def one_file(name: str, size: int) -> Iterator[Callable[[int], None]]:
        with progress(name, size) as advance:

            def arrived(count: int) -> None:
                if stopping.is_set():
                    raise _Stopped
                advance(count)

            yield arrived

    return one_file


class _Stopped(Exception):
    """Another download failed, or the user interrupted us."""


def _download(maven: MavenContext, artifact: Artifact, sha256: str) -> None:
    path = maven.repo_cache / artifact.path

    def attempt() -> None:
        try:
            artifact.in_maven(maven).resolve()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        check(path, sha256)

    retrying = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=0.5, max=10),
        # A complete file with a wrong checksum would be the same next time.
        retry=retry_if_not_exception_type((BrokenDownload, _Stopped, KeyboardInterrupt)),
        reraise=True,
    )
    try:
        retrying(attempt)
    except BrokenDownload:
        raise
    except Exception as error:
        raise EmbeddedError(
            f"{artifact} could not be downloaded in {_ATTEMPTS} attempts ({error}); check the network and try again."
        ) from error


class _Seen:
    """The files whose checksum was right when they were last read: path → [size, mtime in ns, sha256]."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._entries: dict[str, list[int | str]] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._entries = {}

    @staticmethod
    def _entry(path: Path, sha256: str) -> list[int | str]:
        status = path.stat()
        return [status.st_size, status.st_mtime_ns, sha256]

    def knows(self, path: Path, sha256: str) -> bool:
        return self._entries.get(str(path)) == self._entry(path, sha256)

    def add(self, path: Path, sha256: str) -> None:
        self._entries[str(path)] = self._entry(path, sha256)

    def save(self) -> None:
        self._file.write_text(json.dumps(self._entries))
