"""docs/score-your-pipeline.md describes the ledger as it is."""

import re
from pathlib import Path

from retail_stream.topics import Result, topic
from services.generator.faults import Expected

PAGE = (Path(__file__).parents[4] / "docs" / "score-your-pipeline.md").read_text()
LEDGER = PAGE.partition("## The ledger")[2]


def test_the_page_has_every_field_with_its_type() -> None:
    fields = topic(Result.FAULTS).schema()["fields"]
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", LEDGER, re.MULTILINE) == [(f["name"], f["type"]) for f in fields]


def test_the_page_has_everything_that_may_be_expected() -> None:
    sentence = re.search(r"`expected` is one of ([^.]*)\.", LEDGER)
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == {e.value for e in Expected}


def test_the_mode_of_the_subject_is_the_one_that_the_page_states() -> None:
    assert f"compatibility is\n{topic(Result.FAULTS).compatibility}." in LEDGER
