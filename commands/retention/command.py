"""`retail-stream retention`: what the settings mean now, and with `--apply`, doing it."""

from rich.console import Console

from commands.retention import topics, warehouse
from commands.retention.settings import RetentionSettings
from retail_stream import topics as names
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, first_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres


def retention(settings: RetentionSettings, console: Console, *, apply: bool) -> None:
    """Print a line for each part that has a limit; ``apply``: change it.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    limits = topics.wanted(settings)
    for topic, config in limits.items():
        say(f"{topic:<18}{', '.join(f'{name}={value}' for name, value in config.items())}")
    months, days = settings.retention_facts_months, settings.retention_windows_days
    engine = postgres.engine(settings.database_url)
    try:
        if apply and limits:
            wait_for(lambda: topics.apply(settings, clients.admin(settings)), COMMAND_PATIENCE_S)
        if settings.retention_dead_letters_days:
            line = "rows of letters that Kafka has deleted would be deleted"
            if apply:
                begins = wait_for(lambda: _begins(settings), COMMAND_PATIENCE_S)
                letters = wait_for(lambda: warehouse.delete_letters(engine, begins), COMMAND_PATIENCE_S)
                line = f"{letters:,} rows deleted, of letters that Kafka has deleted"
            say(f"{'dead_letters':<18}{line}")
        if months:
            act = warehouse.detach if apply else warehouse.old_months
            names = wait_for(lambda: act(engine, months), COMMAND_PATIENCE_S)
            say(f"{'fact_sales':<18}{'detached' if apply else 'would be detached'}: {', '.join(names) or 'none'}")
        if days:
            since = wait_for(lambda: warehouse.kept_since(engine, days), COMMAND_PATIENCE_S)
            line = f"{'windows':<18}kept since {since:%Y-%m-%d %H:%M:%S} UTC"
            if apply:
                since, deleted = wait_for(lambda: warehouse.delete_windows(engine, days), COMMAND_PATIENCE_S)
                line = f"{'windows':<18}kept since {since:%Y-%m-%d %H:%M:%S} UTC, {deleted:,} rows deleted"
            say(line)
    finally:
        engine.dispose()
    if not (limits or months or days):
        say("Everything is kept: no variable RETENTION_… is set.")
    elif not apply:
        say("Nothing was changed. To do this: --apply")


def _begins(connections: Connections) -> dict[TopicPartitionKey, int]:
    """Where the logs of dead letter topics begin."""
    return first_offsets(connections, topic_partitions(connections, *map(names.dlq, Entity)))
