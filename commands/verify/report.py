"""The report of a run: a line per check with both figures, and examples of what differs."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Check:
    """One line of the report.

    ``expected`` and ``actual`` count the same things, recomputed and as they are. ``differ`` counts those that are
    missing, unexpected or different; ``examples`` describes at most five of them. ``note`` is printed behind the
    figures, whether the check passes or not.
    """

    name: str
    expected: int
    actual: int
    differ: int = 0
    examples: tuple[str, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.differ == 0 and self.expected == self.actual

    @property
    def remark(self) -> str:
        """The note; for a check without one that passed as both sides are empty, that it compared nothing."""
        return self.note or ("nothing to compare" if self.ok and not self.expected else "")


@dataclass(frozen=True)
class Report:
    """All checks of a run, in order."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(c.ok for c in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(c for c in self.checks if not c.ok)

    def as_json(self) -> str:
        """One object: ``ok``, and ``checks`` with the fields of :class:`Check`, ``ok`` and ``remark`` as ``note``."""
        checks: list[dict[str, Any]] = [{"ok": c.ok, **asdict(c), "note": c.remark} for c in self.checks]
        return json.dumps({"ok": self.ok, "checks": checks}, ensure_ascii=False)


def show(report: Report, console: Console) -> None:
    """Print one line per check, the examples of a failed one under it, and a summary."""
    width = max(len(c.name) for c in report.checks)
    for check in report.checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        figures = f"expected {check.expected:>11,}  found {check.actual:>11,}"
        tail = "" if check.ok else f"  [red]{max(check.differ, abs(check.expected - check.actual)):,} differ[/]"
        note = f"  [dim]{escape(check.remark)}[/]" if check.remark else ""
        console.print(f"{mark} {escape(check.name):<{width}}  {figures}{tail}{note}", soft_wrap=True, highlight=False)
        for example in check.examples[:MAX_EXAMPLES]:
            console.print(f"    {escape(example)}", soft_wrap=True, highlight=False)
    if report.ok:
        console.print(f"[green]all {len(report.checks)} checks passed[/]", highlight=False)
    else:
        console.print(f"[red]{len(report.failed)} of {len(report.checks)} checks failed[/]", highlight=False)
