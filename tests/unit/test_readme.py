"""README.md is short, and what it names exists. tests/integration/test_tutorial.py runs its commands."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from commands.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_it_is_read_to_its_end():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in anchors, target


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/tutorial.md"], ids=lambda page: page.name)
def test_every_command_exists(page: Path):
    written = page.read_text()
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"retail-stream ([a-z][a-z-]*)", written))
    assert named
    assert named <= known
    for target in set(re.findall(r"^make ([a-z-]+)", written, flags=re.MULTILINE)):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
