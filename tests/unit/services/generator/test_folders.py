"""The generator's folders know each other in one direction."""

import re
from pathlib import Path

import pytest

GENERATOR = Path(__file__).parents[4] / "services" / "generator"
#: What each folder may import from, itself aside.
KNOWS = {
    "timing": {"faults", "records"},
    "retailer": {"faults", "records", "timing"},
    "publishing": {"faults", "records", "metrics", "retailer", "state"},
    "state": {"faults", "records", "retailer"},
}


@pytest.mark.parametrize("folder", KNOWS)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    text = "".join(path.read_text() for path in (GENERATOR / folder).glob("*.py"))
    assert not re.search(r"^from \.|^import services", text, re.MULTILINE)
    imported = set(re.findall(r"^\s*from services\.generator\.(\w+)", text, re.MULTILINE))
    assert imported - {folder} <= KNOWS[folder]


def test_every_folder_is_known() -> None:
    assert {path.parent.name for path in GENERATOR.glob("*/__init__.py")} == set(KNOWS)
