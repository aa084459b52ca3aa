"""The command: loads, judges and prints."""

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from commands.audit import engine
from commands.progress import Shown
from commands.score.judge import Score, judge
from commands.score.load import gather
from retail_stream.settings import Connections


def run(connections: Connections) -> Score:
    """Judge every entry of the ledger; services may run meanwhile.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    with tempfile.TemporaryDirectory(prefix="score-") as spill, Shown("score") as progress:
        database = engine.connect(Path(spill))
        try:
            gather(connections, database, progress)
            return judge(database)
        finally:
            database.close()


def score(connections: Connections, console: Console, as_json: bool = False) -> int:
    """Print a line per fault; returns 0 when nothing was missed, else 1.

    Raises:
        Unavailable: a server did not answer for 30 s (exit code 2).
    """
    result = run(connections)
    if as_json:
        print(json.dumps(result.as_dict(), ensure_ascii=False))
    else:
        show(result, console)
    return 0 if result.ok else 1


def show(result: Score, console: Console) -> None:
    """Print a line per fault, examples of what was missed under it, and a summary."""
    width = max((len(f.fault) for f in result.faults), default=0)
    for f in result.faults:
        mark = "[red]✗[/]" if f.missed else "[green]✓[/]"
        figures = f"planted {f.planted:>9,}  handled {f.handled:>9,}  missed {f.missed:>7,}"
        notes = [f"{f.too_late:,} ended too late"] if f.too_late else []
        notes += [f"{f.on_its_way:,} on their way"] if f.on_its_way else []
        note = f"  [dim]{', '.join(notes)}[/]" if notes else ""
        console.print(f"{mark} {escape(f.fault):<{width}}  {figures}{note}", soft_wrap=True, highlight=False)
        for example in f.examples:
            console.print(f"    {escape(example)}", soft_wrap=True, highlight=False)
    planted, handled, missed = (sum(getattr(f, n) for f in result.faults) for n in ("planted", "handled", "missed"))
    if not planted:
        console.print("The ledger (generator.faults) has no entries.")
    elif missed:
        console.print(f"[red]{missed:,} of {planted:,} faults missed[/]", highlight=False)
    else:
        rest = "" if handled == planted else f", {planted - handled:,} on their way"
        console.print(f"[green]{handled:,} of {planted:,} faults handled{rest}[/]", highlight=False)
