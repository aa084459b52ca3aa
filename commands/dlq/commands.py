"""`retail-stream dlq`: list, show, load and replay dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retail_stream.entities import Entity

if TYPE_CHECKING:
    from rich.console import Console

    from commands.dlq.plan import Plan

app = typer.Typer(no_args_is_help=True, help="List rejected records and the reasons, show them, and replay them.")

EntityOption = Annotated[Entity | None, typer.Option("--entity", help="Only dead letters of this entity.")]
RuleOption = Annotated[str | None, typer.Option("--rule", help="Only those that broke this rule.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Only records with this timestamp or a later one (ISO 8601; UTC if no zone)."),
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only records with an earlier timestamp.")]


@app.command("list")
def list_() -> None:
    """Count dead letters by entity and rule, with the times of the first and the last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from commands.dlq.counts import count_by_rule
    from commands.dlq.show import for_terminal
    from commands.progress import Shown
    from commands.settings import start
    from retail_stream.settings import Connections

    connections = start("dlq", Connections)
    table = Table(show_edge=False)
    for column in ("entity", "rule", "count", "first", "last"):
        table.add_column(column, overflow="fold")
    with Shown("reading dead letters"):
        counts = count_by_rule(connections)
    for c in counts:
        times = (f"{time:%m-%d %H:%M:%S}" if time else "unknown" for time in (c.first, c.last))
        table.add_row(c.entity, Text(for_terminal(c.rule, most=200)), f"{c.count:,}", *times)
    Console(highlight=False).print(table)


@app.command()
def show(
    entity: EntityOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many, the newest first.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Print dead letters, decoded, beside the reasons why they were rejected."""
    import heapq
    from functools import partial
    from operator import attrgetter

    from commands.dlq import letters, show
    from commands.progress import Shown
    from commands.settings import start
    from retail_stream.avro.registry import Registry
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    selection = letters.Selection.parse(entity, rule, since, until)
    connections = start("dlq", Connections)
    with Shown("reading dead letters") as progress:
        selected = letters.read(connections, selection, progress.count)
        newest = heapq.nlargest(limit, selected, key=attrgetter("timestamp", "offset"))
    registry = Registry(connections.schema_registry_url)
    schemas = {
        e: wait_for(partial(show.raw_schemas, registry, e), COMMAND_PATIENCE_S) for e in {x.entity for x in newest}
    }
    for letter in newest:
        typer.echo((show.as_json if json else show.as_text)(letter, schemas[letter.entity]))
    if not newest:
        typer.echo("No dead letter matches.", err=True)


@app.command()
def load() -> None:
    """Add the dead letters that came since the last run to the table dead_letters of the warehouse."""
    from commands.dlq.load import load
    from commands.progress import Shown
    from commands.settings import start
    from retail_stream.settings import Connections

    connections = start("dlq", Connections)
    with Shown("loading dead letters") as progress:
        added = load(connections, progress.count)
    typer.echo(f"Added {added:,} dead letters to the table dead_letters.")


@app.command()
def replay(
    entity: EntityOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Publish the records; without it, only count them.")
    ] = False,
) -> None:
    """Publish the records of dead letters on their raw topics again, to be judged again.

    Without --execute it publishes nothing and prints the counts. A record counts once, however often it is replayed.
    """
    import collections
    import time

    from rich.console import Console

    from commands.dlq import letters
    from commands.dlq import replay as kafka
    from commands.dlq.plan import Plan
    from commands.progress import Shown
    from commands.settings import start
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    selection = letters.Selection.parse(entity, rule, since, until)
    connections = start("dlq", Connections)

    def empty_plan() -> Plan:
        return Plan(kafka.partitions(connections), now=time.time_ns() // 1_000_000)

    with Shown("replaying dead letters" if execute else "reading dead letters") as progress:
        plan = wait_for(empty_plan, COMMAND_PATIENCE_S)
        selected = letters.read(connections, selection, progress.count)
        records = (record for letter in selected if (record := plan.add(letter)))
        if execute:
            kafka.publish(connections, records)
        else:
            collections.deque(records, maxlen=0)
    print_plan(Console(highlight=False), plan, published=execute)


def print_plan(console: Console, plan: Plan, *, published: bool) -> None:
    """Print a row per entity and rules, why dead letters are not replayed, and how many records were published."""
    from rich.table import Table
    from rich.text import Text

    from commands.dlq.show import for_terminal

    table = Table(show_edge=False)
    for column in ("entity", "rules", "replayed" if published else "would be replayed", "copies", "cannot be"):
        table.add_column(column, overflow="fold")
    groups = plan.replayed | plan.copies | plan.blocked
    for group in sorted(groups, key=lambda g: (list(Entity).index(g[0]), g[1])):
        numbers = (f"{counted[group]:,}" for counted in (plan.replayed, plan.copies, plan.blocked))
        table.add_row(group[0], Text(for_terminal(group[1], most=200)), *numbers)
    console.print(table)
    if copies := plan.copies.total():
        console.print(
            f"Copies: {copies:,}. The record of each is replayed once, with another dead letter.",
            soft_wrap=True,
        )
    for obstacle, number in plan.obstacles.items():
        console.print(f"Cannot be replayed: {number:,}, because {obstacle}.", soft_wrap=True)
    number = plan.replayed.total()
    if published:
        console.print(
            f"Published {number:,} records. A record counts once, however often it is replayed.", soft_wrap=True
        )
    elif number:
        console.print(f"Nothing was published. To publish these {number:,} records: --execute")
    else:
        console.print("Nothing was published: there is nothing to replay.")
