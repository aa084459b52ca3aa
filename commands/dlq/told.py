"""What a replay did, or would do, for a person."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.dlq.plan import Plan
from commands.dlq.show import for_terminal
from retail_stream.entities import Entity


def tell(console: Console, plan: Plan, *, published: bool) -> None:
    """Print a row per entity and rules, why some letters stay, and what was published."""
    table = Table(show_edge=False)
    for column in ("entity", "rules", "replayed" if published else "would be replayed", "copies", "cannot be"):
        table.add_column(column, overflow="fold")
    groups = plan.going | plan.copies | plan.stuck
    for group in sorted(groups, key=lambda g: (list(Entity).index(g[0]), g[1])):
        numbers = (f"{counted[group]:,}" for counted in (plan.going, plan.copies, plan.stuck))
        table.add_row(group[0], Text(for_terminal(group[1], most=200)), *numbers)
    console.print(table)
    if copies := plan.copies.total():
        console.print(
            f"Copies: {copies:,}. Their record is among those counted already; it goes back once.", soft_wrap=True
        )
    for obstacle, number in plan.obstacles.items():
        console.print(f"Cannot be replayed: {number:,}, because {obstacle}.", soft_wrap=True)
    number = plan.going.total()
    if published:
        console.print(
            f"Published {number:,} records. A record that was replayed before counts no second time.", soft_wrap=True
        )
    elif number:
        console.print(f"Nothing was published. To publish these {number:,} records: --execute")
    else:
        console.print("Nothing was published, and nothing would be.")
