"""docs/failures.md: each line of its tables names a test that there is."""

import ast
import re

from tests.harness.documented import ROOT

LINES = [
    line
    for line in (ROOT / "docs" / "failures.md").read_text().splitlines()
    if line.startswith("| ") and not line.endswith("| shown by |")
]


def test_every_line_names_a_test_that_there_is() -> None:
    assert len(LINES) > 30
    for line in LINES:
        (named,) = re.findall(r"`(tests/\S+\.py)::(test_\w+)` \|$", line) or [("", line)]
        path, test = named
        assert path, f"no test is named: {line}"
        tree = ast.parse((ROOT / path).read_text())
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in there, f"{path} has no {test}"
