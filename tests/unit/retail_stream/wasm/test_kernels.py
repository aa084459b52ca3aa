"""The committed WebAssembly is what the C sources compile to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SOURCES = sorted((ROOT / "retail_stream").rglob("*.c"))


def test_every_pass_has_its_module():
    assert SOURCES
    assert [s for s in SOURCES if not s.with_suffix(".wasm").is_file()] == []
    assert sorted((ROOT / "retail_stream").rglob("*.wasm")) == [s.with_suffix(".wasm") for s in SOURCES]


def test_make_kernels_gives_the_committed_bytes(tmp_path: Path):
    """In another folder and without the compiler's cache: neither path nor machine shows in the bytes."""
    pytest.importorskip("ziglang")
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "retail_stream", copy / "retail_stream", ignore=shutil.ignore_patterns("*.wasm", "*.py"))
    shutil.copy(ROOT / "Makefile", copy)
    subprocess.run(
        ["make", "-s", "-o", "setup", "kernels", f"BIN={Path(sys.executable).parent}"],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "cache")},
        check=True,
        timeout=300,
    )
    for source in SOURCES:
        module = source.with_suffix(".wasm")
        rebuilt = copy / module.relative_to(ROOT)
        assert rebuilt.read_bytes() == module.read_bytes(), f"{module.relative_to(ROOT)}: run `make kernels`"
