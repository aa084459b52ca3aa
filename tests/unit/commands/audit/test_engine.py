"""DuckDB's memory in `verify`: 2 GB, but in a container no more than half of what that may use."""

from pathlib import Path

import pytest

from commands.audit.engine import connect, memory

GB = 10**9


@pytest.mark.parametrize(
    ("version_2", "version_1", "expected"),
    [
        (None, None, 2 * GB),
        ("max", None, 2 * GB),
        (str(GB), None, GB // 2),
        (str(100 * GB), None, 2 * GB),
        (None, str(GB), GB // 2),
        (None, str(2**63 - 4096), 2 * GB),
    ],
)
def test_half_of_a_containers_limit(version_2: str | None, version_1: str | None, expected: int, tmp_path: Path):
    files = (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    for file, text in zip(files, (version_2, version_1), strict=True):
        if text is not None:
            file.write_text(f"{text}\n")
    assert memory(files) == expected


def test_it_is_what_the_database_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("commands.audit.engine.memory", lambda: 2**28)
    with connect(tmp_path) as engine:
        assert engine.execute("SELECT current_setting('memory_limit')").fetchone() == ("256.0 MiB",)
