"""docs/damages.md says which damages the tests make."""

from pathlib import Path

from tests.integration.commands.verify.families import page


def test_the_page_of_damages_is_current() -> None:
    """If not: python -m tests.integration.commands.verify.families > docs/damages.md."""
    assert (Path(__file__).parents[4] / "docs" / "damages.md").read_text() == page()
