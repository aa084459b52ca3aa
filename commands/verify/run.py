"""One run: load everything, recompute everything, compare everything."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from commands.audit import engine
from commands.audit.engine import Engine
from commands.progress import Shown
from commands.verify import categories, cleaning, facts, told, versions, watermarks, windows
from commands.verify.load import gather
from commands.verify.report import Check, Report
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.settings import Connections

_SECOND = 1_000_000
#: What SALES_WINDOWS and the others are before an aggregator has stored them: nothing has been computed then.
_DEFAULTS = {"SALES_WINDOWS": "1m", "WATERMARK_DELAY_S": "10", "ALLOWED_LATENESS_S": "60", "FACT_SALES": "on"}


def run(connections: Connections) -> Report:
    """Recompute and compare; beside running services too.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    # The one thing that `verify` takes from a service: by which rules today's dead letters were judged.
    from services.cleaner.expectations import RULES_VERSION

    with tempfile.TemporaryDirectory(prefix="verify-") as spill, Shown("verify") as progress:
        database = engine.connect(Path(spill))
        try:
            gather(connections, database, progress)
            checks = []
            for check in compare(database, RULES_VERSION):
                checks.append(check)
                progress.say(f"compared {check.name}")
            return Report(tuple(checks))
        finally:
            database.close()


def compare(database: Engine, rules_version: str) -> Iterator[Check]:
    """Every check over loaded tables, in the order of the pipeline."""
    for entity in Entity:
        cleaning.place(database, entity, rules_version)
        yield from cleaning.checks(database, entity, rules_version)
    yield watermarks.position_check(database)
    for entity in DIMENSIONS:
        versions.expected(database, entity, versions.changes(entity))
        yield versions.version_check(database, entity)
    settings = _DEFAULTS | dict(database.execute("SELECT name, value FROM settings").fetchall())
    delay, lateness = (int(settings[n]) * _SECOND for n in ("WATERMARK_DELAY_S", "ALLOWED_LATENESS_S"))
    watermarks.judge(database, delay)
    yield facts.reference_check(database)
    if settings["FACT_SALES"] == "on":
        yield facts.fact_check(database)
        yield facts.enriched_check(database)
    yield watermarks.partition_check(database, delay)
    yield watermarks.stream_check(database)
    sizes = windows.sizes(settings["SALES_WINDOWS"])
    windows.judge(database, sizes, lateness)
    for kind in windows.IDS:
        windows.expected(database, kind, sizes, lateness, watermarks.stream_watermark(database))
        yield windows.window_check(database, kind)
    yield categories.category_check(database)
    yield told.window_results(database)
    yield told.late_sales(database, sizes, lateness)
