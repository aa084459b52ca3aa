"""The workflow of a release publishes what docker-compose.yml builds, in the version that the project has."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())


def test_each_image_that_compose_builds_is_published_with_its_program() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {
        (s["image"].rpartition("/")[2], s["build"]["args"].get("PROGRAM", ""))
        for s in services.values()
        if "build" in s
    }
    matrix = WORKFLOW["jobs"]["images"]["strategy"]["matrix"]["include"]
    assert {(entry["image"], entry["program"]) for entry in matrix} == built


def test_the_changelog_has_a_section_of_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_images_carry_what_is_in_them_and_are_signed() -> None:
    steps = WORKFLOW["jobs"]["images"]["steps"]
    (build,) = (s for s in steps if "build-push" in s.get("uses", ""))
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    assert any("cosign sign" in s.get("run", "") for s in steps)
