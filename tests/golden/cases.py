"""The cases of `cases/*.md`: raw records, and what must come of them, as tables of text."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from retail_stream.entities import FIELDS, Entity

_FOLDER = Path(__file__).parent / "cases"
_RAW = re.compile(r"(\w+)\.raw/(\d)")
#: The column that numbers the raw records of a case.
NUMBER = "#"
#: Tables that must be empty for a case that does not have them.
ALWAYS = (*(f"{entity}.dlq" for entity in Entity), "late_sales")

Cells = Mapping[str, str]


class Raw(NamedTuple):
    """A raw record of a case. ``writer``: the schema that it is written with, if that is not ours."""

    entity: Entity
    partition: int
    cells: Cells
    writer: dict[str, Any] | None


@dataclass(frozen=True)
class Table:
    """An expected table: ``rows`` have a cell of text for each of ``columns``, in any order of rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """A case, named like its file. ``expected``: table or topic → its rows of the ids that the case uses."""

    name: str
    raw: Sequence[Raw]
    expected: Mapping[str, Table]

    def ids(self, entity: Entity, column: str) -> set[str]:
        """The values of a column in the raw records of an entity."""
        return {r.cells[column] for r in self.raw if r.entity is entity and r.cells.get(column)}


def load() -> list[Case]:
    """All cases, in the order in which they are published."""
    cases = [_case(path) for path in _FOLDER.glob("*.md")]
    for entity, fields in FIELDS.items():
        for a, b in combinations(cases, 2):
            shared = a.ids(entity, fields.key) & b.ids(entity, fields.key)
            assert not shared, f"{a.name} and {b.name} share {entity} of {fields.key} {shared}"
    return sorted(cases, key=lambda case: min(r.cells["published"] for r in case.raw))


def _case(path: Path) -> Case:
    raw: list[Raw] = []
    expected = {name: Table((NUMBER,), ()) for name in ALWAYS}
    for title, body in _sections(path.read_text()):
        code = re.search(r"```json\n(.*?)```", body, re.DOTALL)
        columns, *rows = _rows(body)
        if match := _RAW.fullmatch(title):
            writer = json.loads(code[1]) if code else None
            entity, partition = Entity(match[1]), int(match[2])
            raw += [Raw(entity, partition, dict(zip(columns, row, strict=True)), writer) for row in rows]
        else:
            expected[title] = Table(columns, rows)
    return Case(path.stem, raw, expected)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        yield title.strip(), body


def _rows(body: str) -> list[tuple[str, ...]]:
    lines = [line.strip().strip("|") for line in body.splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
    return [row for row in rows if not set("".join(row)) <= {"-"}]
