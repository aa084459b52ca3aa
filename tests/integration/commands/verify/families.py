"""The families of damages, and the line that names each: docs/damages.md, and how many of each the tests make at least.

``python -m tests.integration.commands.verify.families > docs/damages.md`` writes the page.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.golden.mutants import CLEANER, ROUNDS
from tests.integration.commands.verify.expectations import HARMLESS, HARMLESS_IN_TOPICS


class Family(NamedTuple):
    """Damages of one kind. ``at_least``: how many a test makes; ``line``: of the report, that names them."""

    damage: str
    at_least: int
    line: str


COLUMNS = Family("another value in one column of one row, for every column of every table", 100, "that of the table")
STATE = Family("another group, topic, partition, setting or `warehouse_id`", 8, "that of the table")
GONE = Family("a row is gone", 10, "that of the table")
INVENTED = Family("a row is invented, also in the tables that are empty when all is drained", 12, "that of the table")
SHOWN = Family("a view or `<entity>_as_of` shows something else, for every column", 80, "that of the view")
CATALOGUE = Family(
    "a table, constraint, index, trigger, function, comment or right is altered or gone", 250, "`tables as declared`"
)
HEADERS = Family(
    "a record of a derived topic has another header, one less or one more, another key, value or timestamp, or is gone",
    100,
    "that of the topic, `outbox` or `cleaner.rules`",
)
REVISIONS = Family(
    "a field of a result of a window is another, also in revisions that others replaced",
    20,
    "`sales.windows` or `sales.windows, revisions`",
)
AGAIN = Family(
    "a result published again under another warehouse's id, a rise of the year 2030, a good sale as a dead letter",
    5,
    "`outbox`, `sales.windows`, `sales.watermarks`, `sales.dlq`, `cleaner.rules`",
)
VERIFIED = (COLUMNS, STATE, GONE, INVENTED, SHOWN, CATALOGUE, HEADERS, REVISIONS, AGAIN)

SCORED_TOPICS = Family("a planted record has another clean record, none, or is on the wrong topic", 26, "its fault's")
SCORED_WAREHOUSE = Family("a planted record has another fact, window or version, or none", 16, "its fault's")
SCORED = (SCORED_TOPICS, SCORED_WAREHOUSE)


def page() -> str:
    """The text of docs/damages.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# What verify and score notice"
    yield ""
    yield "Tests damage a drained pipeline: its topics, or its warehouse. The line of each damage must be red and name"
    yield "the place. No other line may be red, but those that follow from it. The large families are made from the"
    yield "database and the records themselves, so a new column or header is a new damage."
    yield ""
    for command, families in (("verify", VERIFIED), ("score", SCORED)):
        yield f"## Named by {command}"
        yield ""
        yield "| damage | at least | the line that names it |"
        yield "|---|---|---|"
        yield from (f"| {f.damage} | {f.at_least} | {f.line} |" for f in families)
        yield ""
    yield "## Wrong services"
    yield ""
    yield "Each mistake is made in a running service; [the cases](../tests/golden/README.md) reach all of them."
    yield ""
    yield "| mistake | service | the line of verify that names it |"
    yield "|---|---|---|"
    for mutant in (*CLEANER, *(m for some in ROUNDS for m in some)):
        service = mutant.function.__module__.split(".")[1]
        yield f"| {mutant.name} | {service} | `{mutant.line}` |"
    yield ""
    yield "## What nothing names, and why that is no harm"
    yield ""
    yield "| where | what | why no result depends on it |"
    yield "|---|---|---|"
    for (where, what), why in (HARMLESS | HARMLESS_IN_TOPICS).items():
        yield f"| {'every table or topic' if where == '*' else f'`{where}`'} | {what} | {why} |"


if __name__ == "__main__":
    print(page(), end="")
