"""`retail-stream rules`: list rule sets, compare two of them, and try one without changing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True, help="List the rule sets that were ever in force; compare and try them.")


@app.callback()
def rules(context: typer.Context) -> None:
    """List today's rules, and each version that was ever in force."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from commands.rules import history
    from commands.settings import start
    from retail_stream.rules import published
    from retail_stream.rules.rule_set import load_all
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    today = load_all()
    connections = start("rules", Connections)
    there = wait_for(lambda: published.read(connections), COMMAND_PATIENCE_S)
    console = Console(highlight=False)
    versions = Table(show_edge=False)
    for column in ("entity", "version", "rules", "in force since", ""):
        versions.add_column(column, overflow="fold")
    for row in history.versions(today, there):
        versions.add_row(*row)
    console.print(versions)
    console.print()
    table = Table(show_edge=False, title="Today's rules", title_justify="left")
    for column in ("entity", "rule", "action", "must"):
        table.add_column(column, overflow="fold")
    for entity, rule_set in today.items():
        for rule in rule_set.rules:
            table.add_row(entity, rule.name, rule.action, Text(rule.must))
    console.print(table)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A version, or today.")],
    new: Annotated[str, typer.Argument(help="A version of the same entity, or today.")] = "today",
) -> None:
    """Print how the rules of one version differ from those of another: + added, - dropped, ~ changed, > renamed."""
    from commands.rules import history
    from commands.settings import start
    from retail_stream.rules import published
    from retail_stream.rules.rule_set import load_all
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    today = load_all()
    connections = start("rules", Connections)
    there = wait_for(lambda: published.read(connections), COMMAND_PATIENCE_S)
    before, after = history.pair(old, new, today, there)
    lines = history.differences(before, after)
    typer.echo(f"{before.entity} {before.version} → {after.version}")
    for line in lines or ["no difference"]:
        typer.echo(line)


@app.command("try")
def try_(
    file: Annotated[Path, typer.Argument(help="A file like schemas/rules/sales.toml, named like its entity.")],
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only records with this timestamp or a later one (ISO 8601; UTC if no zone)."),
    ] = None,
) -> None:
    """Judge the raw topic by a candidate rule set, and print what each rule would do; nothing is written."""
    from rich.console import Console
    from rich.markup import escape

    from commands.dlq.letters import parse_time
    from commands.dlq.show import for_terminal
    from commands.progress import Shown
    from commands.rules.trial import Trial, candidate
    from commands.settings import start
    from retail_stream.settings import Connections

    rule_set = candidate(file)
    first = parse_time("--since", since)
    connections = start("rules", Connections)
    with Shown(f"trying {file.name}") as progress:
        trial = Trial(connections, rule_set, first)
        trial.run(progress.count)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{trial.records:,} records of {rule_set.entity}.raw; {trial.unread:,} of them hold no fields.")
    for rule in rule_set.expectations:
        found = trial.broken[rule.name]
        console.print(f"{rule.name} ({rule.action}): {found.count:,} records", style="bold" if found.count else None)
        for example in found.examples:
            console.print(f"    {escape(for_terminal(example, most=500))}")
    console.print(f"{trial.rejected:,} records would be rejected. Nothing was written.")
