"""No file is used without its checksum; a broken transfer is tried again."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands.embedded.downloads import fetch
from commands.embedded.errors import BrokenDownload
from commands.embedded.maven import Artifact, repository

ARTIFACT = Artifact("org.example", "thing", "jar", "", "1.0")
GOOD = b"what was published" * 1000
LOCK = {ARTIFACT: hashlib.sha256(GOOD).hexdigest()}


class Mirror(http.server.ThreadingHTTPServer):
    """A Maven repository that answers each request for the file with the next of `answers`, then with the last again.

    None stands for a transfer that breaks in the middle.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[bytes | None] = [GOOD]
        self.requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        if not self.path.endswith(".jar"):
            self.send_error(404)
            return
        body = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD if body is None else body)))
        self.end_headers()
        self.wfile.write(GOOD[:100] if body is None else body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        config = tmp_path / "jgo.conf"
        config.write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.shutdown()


@contextmanager
def no_progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def cached(cache: Path) -> Path:
    return repository(cache) / ARTIFACT.path


def test_a_file_with_its_checksum_is_fetched_once(tmp_path: Path, mirror: Mirror) -> None:
    for _ in range(2):
        paths = fetch(tmp_path, LOCK, no_progress, pytest.fail)
        assert paths[ARTIFACT].read_bytes() == GOOD
    assert mirror.requests == 1


def test_other_bytes_than_the_locked_ones_are_removed_and_named(tmp_path: Path, mirror: Mirror) -> None:
    mirror.answers = [b"something else"]
    with pytest.raises(BrokenDownload) as caught:
        fetch(tmp_path, LOCK, no_progress, pytest.fail)
    for part in (ARTIFACT.path, LOCK[ARTIFACT], hashlib.sha256(b"something else").hexdigest()):
        assert part in str(caught.value)
    assert not cached(tmp_path).exists()


def test_a_broken_transfer_is_tried_again(tmp_path: Path, mirror: Mirror) -> None:
    mirror.answers = [None, GOOD]
    assert fetch(tmp_path, LOCK, no_progress, pytest.fail)[ARTIFACT].read_bytes() == GOOD
    assert mirror.requests == 2


def test_a_damaged_file_of_the_cache_is_named_and_downloaded_again(tmp_path: Path, mirror: Mirror) -> None:
    fetch(tmp_path, LOCK, no_progress, pytest.fail)
    cached(tmp_path).write_bytes(GOOD[:-1] + b"!")
    said: list[str] = []
    fetch(tmp_path, LOCK, no_progress, said.append)
    assert cached(tmp_path).read_bytes() == GOOD
    assert len(said) == 1
    assert ARTIFACT.path in said[0]


def test_a_file_of_an_earlier_lock_is_not_taken_for_the_new_one(tmp_path: Path, mirror: Mirror) -> None:
    fetch(tmp_path, LOCK, no_progress, pytest.fail)
    newer = b"the next build"
    mirror.answers = [newer]
    mirror.requests = 0
    said: list[str] = []
    fetch(tmp_path, {ARTIFACT: hashlib.sha256(newer).hexdigest()}, no_progress, said.append)
    assert cached(tmp_path).read_bytes() == newer
