"""What the tests of damages ask `verify` and `score`, and what they require of the answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from commands.score import command, judge
from commands.verify import run as verify
from commands.verify.report import Check
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.integration.commands.verify.expectations import (
    Damage,
)


@contextmanager
def connected(connections: Connections) -> Iterator[Connection]:
    engine = postgres.engine(connections.database_url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def checked(connections: Connections) -> tuple[Check, ...]:
    return verify.run(connections).checks


def red(checks: Sequence[Check]) -> dict[str, tuple[str, ...]]:
    """The lines that did not pass, with all of their examples."""
    return {c.name: c.examples for c in checks if not c.ok}


def require_named(checks: Sequence[Check], made: Sequence[Damage], also: Sequence[str] = ()) -> None:
    """Each damage is named by one of its lines, and no line is red but theirs and ``also``, which follow from them."""
    wrong = red(checks)
    unnamed = [damage for damage in made if not damage.is_named(wrong)]
    others = {line: examples[:3] for line, examples in wrong.items() if line not in {*also, *_lines(made)}}
    assert (unnamed, others) == ([], {}), wrong


def _lines(made: Sequence[Damage]) -> set[str]:
    return {line for damage in made for line in damage.lines}


def missed(connections: Connections) -> list[str]:
    """All examples of planted records that were missed, as `score` prints them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_EXAMPLES", 100_000)
        return [example for fault in command.run(connections).faults for example in fault.examples]
