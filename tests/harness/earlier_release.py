"""The code of the release before this one, out of the history of the repository."""

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.services import ROOT

#: The first commit that calls itself 0.2.0. It stands in for a tag until there is one.
_UNTAGGED = "0c30a1db2fd8d65b5b7b32bfdf629d336dfd9fc7"
_FULL_CLONE = "this clone does not hold the earlier release: git fetch --unshallow --tags"


@dataclass(frozen=True)
class Release:
    """``folder``: its code; ``python``: an interpreter with the dependencies that it locks."""

    folder: Path
    python: str


def unpacked(folder: Path) -> Release:
    """Write the release of the last tag before this commit into a folder; skip the test if the clone lacks it."""
    described = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    version = _UNTAGGED if described.returncode else described.stdout.decode().strip()
    code = _git("archive", "--format=tar", version)
    if code.returncode:
        pytest.skip(f"{_FULL_CLONE} ({version}: {code.stderr.decode().strip()})")
    with tarfile.open(fileobj=io.BytesIO(code.stdout)) as archive:
        archive.extractall(folder, filter="data")
    lock = "requirements.lock"
    same = (folder / lock).read_bytes() == (ROOT / lock).read_bytes()
    return Release(folder, sys.executable if same else _environment(folder, lock))


def _environment(folder: Path, lock: str) -> str:
    uv, venv = Path(sys.executable).with_name("uv"), folder / ".venv"
    for arguments in (["venv", "--python", sys.executable, venv], ["pip", "install", "--require-hashes", "-r", lock]):
        subprocess.run([uv, "-q", *arguments], cwd=folder, env={**os.environ, "VIRTUAL_ENV": str(venv)}, check=True)
    return str(venv / "bin" / "python")


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
