"""docs/questions.md: its questions, and the answers and times that are written into it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "questions.md"
_QUESTION = re.compile(
    r"### (?P<title>[^\n]+)\n(?P<words>.*?)```sql\n(?P<sql>.*?)\n```\n(?:\n```text\n.*?\n```\n)?", re.S
)
_TIMES = re.compile(r"(?<=\n## Times\n\n).*", re.S)
_ROWS = 3


@dataclass(frozen=True)
class Question:
    """``title``: number and words, as the heading has them. ``sql``: one SELECT without a semicolon."""

    title: str
    sql: str


@dataclass(frozen=True)
class Answer:
    """``seconds``: the median of some runs."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    seconds: float


def questions() -> list[Question]:
    """All questions, in the order of the document."""
    return [Question(m["title"], m["sql"]) for m in _QUESTION.finditer(DOCUMENT.read_text())]


def write(answers: Mapping[str, Answer], measured: str) -> None:
    """Put the first rows of each answer, by title, under its question, and all times to the end.

    ``measured``: the sentence above the times.
    """

    def answered(m: re.Match[str]) -> str:
        block = f"### {m['title']}\n{m['words']}```sql\n{m['sql']}\n```\n"
        return f"{block}\n```text\n{_table(answers[m['title']])}\n```\n"

    times = "\n".join(f"| {title} | {a.seconds * 1000:.0f} |" for title, a in answers.items())
    told = f"{measured}\n\n| question | ms |\n|---|---|\n{times}\n"
    DOCUMENT.write_text(_TIMES.sub(lambda _: told, _QUESTION.sub(answered, DOCUMENT.read_text())))


def _table(answer: Answer) -> str:
    lines = [answer.columns, *([_text(v) for v in row] for row in answer.rows[:_ROWS])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(answer.columns))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _text(value: object) -> str:
    if hasattr(value, "strftime"):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else str(value)
