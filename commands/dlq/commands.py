"""`retail-stream dlq`: list, show, replay."""

from typing import Annotated

import typer

from retail_stream.entities import Entity

app = typer.Typer(no_args_is_help=True, help="What was rejected and why; and back to be judged again.")

EntityOption = Annotated[Entity | None, typer.Option("--entity", help="Only dead letters of this entity.")]
RuleOption = Annotated[str | None, typer.Option("--rule", help="Only those that broke this rule.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Only records with this timestamp or a later one (ISO 8601; UTC if no zone)."),
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only records with an earlier timestamp.")]


@app.command("list")
def list_() -> None:
    """Dead letters by entity and rule, with the times of the first and the last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from commands.connected import connected
    from commands.dlq.counts import count_by_rule
    from commands.dlq.show import for_terminal
    from commands.progress import Shown
    from retail_stream.service import logs
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("dlq")
    connections = connected(Connections)
    table = Table(show_edge=False)
    for column in ("entity", "rule", "count", "first", "last"):
        table.add_column(column, overflow="fold")
    with Shown("reading dead letters"):
        counts = wait_for(lambda: count_by_rule(connections), COMMAND_PATIENCE_S)
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
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many, the newest first.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Dead letters decoded, beside the reasons why they were rejected."""
    import heapq
    from functools import partial
    from operator import attrgetter

    from commands.connected import connected
    from commands.dlq import letters, show
    from commands.progress import Shown
    from retail_stream.avro.registry import Registry
    from retail_stream.service import logs
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("dlq")
    wanted = letters.Selection.asked(entity, rule, since, until)
    connections = connected(Connections)

    def newest_ones() -> list[letters.Letter]:
        found = letters.read(connections, wanted, progress.count)
        return heapq.nlargest(limit, found, key=attrgetter("timestamp", "offset"))

    with Shown("reading dead letters") as progress:
        newest = wait_for(newest_ones, COMMAND_PATIENCE_S)
    registry = Registry(connections.schema_registry_url)
    of = {e: wait_for(partial(show.writers, registry, e), COMMAND_PATIENCE_S) for e in {x.entity for x in newest}}
    for letter in newest:
        typer.echo((show.as_json if json else show.as_text)(letter, of[letter.entity]))
    if not newest:
        typer.echo("No dead letter matches.", err=True)


@app.command()
def replay(
    entity: EntityOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Publish them; without this only say what would be.")
    ] = False,
) -> None:
    """Put dead letters back on their raw topic, to be judged again; without --execute it only says which.

    A record that is replayed twice counts once.
    """
    import time

    from rich.console import Console

    from commands.connected import connected
    from commands.dlq import letters, told
    from commands.dlq import replay as edge
    from commands.dlq.plan import Plan
    from commands.progress import Shown
    from retail_stream.service import logs
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("dlq")
    wanted = letters.Selection.asked(entity, rule, since, until)
    connections = connected(Connections)

    def fresh() -> Plan:
        return Plan(edge.partitions(connections), now=time.time_ns() // 1_000_000)

    def look() -> Plan:
        plan = fresh()
        for letter in letters.read(connections, wanted, progress.count):
            plan.take(letter)
        return plan

    with Shown("replaying dead letters" if execute else "reading dead letters") as progress:
        if execute:
            plan = wait_for(fresh, COMMAND_PATIENCE_S)
            found = letters.read(connections, wanted, progress.count)
            edge.publish(connections, (record for letter in found if (record := plan.take(letter))))
        else:
            plan = wait_for(look, COMMAND_PATIENCE_S)
    told.tell(Console(highlight=False), plan, published=execute)
