"""The report of a run: its lines and its JSON."""

import io
import json

from rich.console import Console

from commands.verify.report import Check, Report, show

REPORT = Report(
    (
        Check("facts", 2, 2),
        Check("windows", 2, 1, 1, ("store_id 1: missing",)),
        Check("replays", 0, 0),
        Check("facts off", 0, 0, note="FACT_SALES is stored as off"),
        Check("unknown", 0, 1, 1, ("id 7",)),
    )
)


def shown(report: Report) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    show(report, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_line_says_what_was_expected_and_found_and_the_first_differences() -> None:
    facts, windows, example, *_, last = shown(REPORT)
    assert facts.split() == ["✓", "facts", "expected", "2", "found", "2"]
    assert windows.split() == ["✗", "windows", "expected", "2", "found", "1", "1", "differ"]
    assert example.strip() == "store_id 1: missing"
    assert last == "2 of 5 checks failed"


def test_a_check_that_had_nothing_to_compare_says_so() -> None:
    lines = {line.split()[1]: line for line in shown(Report(REPORT.checks[2:]))}
    assert lines["replays"].endswith("nothing to compare")
    assert "nothing to compare" not in lines["unknown"]
    assert lines["facts"].endswith("FACT_SALES is stored as off")


def test_json_holds_the_same() -> None:
    read = json.loads(REPORT.as_json())
    assert read["ok"] is False
    assert read["checks"][1] == {
        "ok": False, "name": "windows", "expected": 2, "actual": 1, "differ": 1, "examples": ["store_id 1: missing"],
        "note": "",
    }  # fmt: skip
    assert read["checks"][2]["note"] == "nothing to compare"
