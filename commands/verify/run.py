"""One run: load everything, recompute everything, compare everything.

The engine's tables, from left to right: a thin arrow is a computation, a thick one a check. A table whose name ends
in ``_`` exists once for each entity, ``dim_`` and ``versions_`` for each dimension::

    loaded                 recomputed                                compared with

    raw_ clean_ dead_ ─┬─▶ first_ letters_ places_ ════════════════▶ clean_ dead_
    committed ─────────┘        │
    positions ──────────────────┴─▶ good records that were passed ═▶ positions
                                      │
                                      ├─▶ versions_ ═══════════════▶ dim_ ───────┐
                                      │                                          ├──══▶ sales_enriched
    rises ──▶ raised ─────────────────┴─▶ sales ─┬─▶ facts ════════▶ fact_sales ─┘
                                                 │
                                                 ├─▶ marks ════════▶ partition_watermarks ══▶ stream_watermark
                                                 │
                                                 └─▶ counted ─┬─▶ windows_store ════▶ sales_by_window
                                                              ├─▶ windows_product ══▶ sales_by_product_window, …
                                                              └─▶ expected_late_results ══▶ late_results, late_sales

    good records that were passed ─▶ changes ═▶ changes_        counted ─▶ to_be_held ═▶ sale_identities
    sales_by_window, sales_by_product_window ──▶ expected_window_results ══▶ window_results
    counted ──▶ prefixes ──▶ attained, the sums that an earlier revision can have ══▶ window_results
    sales_by_product_window, dim_products ─────────────────────────────────══▶ sales_by_category_window
    window_results ══▶ window_revisions        dead_, raw_ ══▶ dead_letters        fact_sales, dim_ ══▶ baskets, places

The other checks compare one loaded table with another, or with what `migrations/catalogue.json` declares.
"""

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from commands.audit import engine
from commands.audit.engine import Engine
from commands.audit.rule_sets import RuleSets
from commands.audit.versions import make_versions
from commands.progress import Shown
from commands.verify import (
    catalogue,
    categories,
    cleaning,
    facts,
    guards,
    outbox,
    recent,
    results,
    retained,
    shown,
    stored,
    versions,
    views,
    watermarks,
    windows,
)
from commands.verify.changes import change_check
from commands.verify.identities import identity_check
from commands.verify.load import gather
from commands.verify.positions import position_check, topic_check
from commands.verify.replays import replay_check
from commands.verify.report import Check, Report, show
from commands.verify.revisions import revision_check
from commands.verify.rule_versions import version_check
from commands.verify.shaping import aggregation_check, setting_check, shaping
from commands.verify.since import parse
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for


def run(connections: Connections, since: str | None = None) -> Report:
    """Recompute everything and compare it; services may run meanwhile.

    ``since``: a time as :func:`commands.verify.since.parse` reads it; then only what was published since it. If Kafka
    has deleted raw or clean records, only what was published since then.

    Raises:
        SettingsError: ``since`` is not a time that has passed.
        Unavailable: a server did not answer for 30 s.
    """
    since_ms = None if since is None else parse(since, datetime.now(UTC))
    note = ""
    kept = wait_for(lambda: retained.kept(connections), COMMAND_PATIENCE_S)
    if kept.since_ms is not None and (since_ms is None or since_ms < kept.since_ms):
        since_ms, note = kept.since_ms, "Kafka has deleted older records, and what follows from them is not compared"
    with tempfile.TemporaryDirectory(prefix="verify-") as spill, Shown("verify") as progress:
        database = engine.connect(Path(spill))
        try:
            checks = []
            for check in (
                compare(database, gather(connections, database, progress, kept.begins))
                if since_ms is None
                else recent.compare(connections, database, since_ms, progress, note)
            ):
                checks.append(check)
                progress.say(f"compared {check.name}")
            return Report(tuple(checks))
        finally:
            database.close()


def verify(connections: Connections, console: Console, since: str | None = None, as_json: bool = False) -> int:
    """Print the report of a :func:`run`. Returns the exit code: 0 when nothing differs, else 1.

    Raises:
        SettingsError: ``since`` is not a time that has passed (exit code 2).
        Unavailable: a server did not answer for 30 s (exit code 2).
    """
    report = run(connections, since)
    if as_json:
        print(report.as_json())
    else:
        show(report, console)
    return 0 if report.ok else 1


def compare(database: Engine, books: Mapping[Entity, RuleSets]) -> Iterator[Check]:
    """Every check of the loaded tables, in the order of the pipeline."""
    # A letter has the values that came; where its record is in clean, too, `place` gives the raw one those of clean.
    letters = stored.dead_letter_check(database)
    for entity in Entity:
        cleaning.place(database, books[entity])
        yield from cleaning.checks(database, entity)
    yield version_check(database, books)
    settings = shaping(database)
    yield guards.guard_check(database, [g.table for g in settings.groupings])
    yield catalogue.catalogue_check(database, settings)
    yield guards.id_check(database)
    yield setting_check(database)
    yield aggregation_check(database, settings)
    yield position_check(database)
    yield topic_check(database)
    yield views.position_view_check(database)
    yield replay_check(database)
    for entity in DIMENSIONS:
        make_versions(database, entity, versions.changes(entity))
        yield versions.version_check(database, entity)
        yield versions.current_check(database, entity)
        yield versions.as_of_check(database, entity)
        yield change_check(database, entity)
    window_sizes, delay, lateness = settings.windows, settings.delay, settings.lateness
    watermarks.judge(database, delay)
    yield facts.reference_check(database)
    if settings.has_facts:
        yield facts.fact_check(database)
        yield facts.enriched_check(database)
    else:
        yield facts.no_fact_check(database)
    yield shown.basket_check(database)
    for one in shown.PLACES:
        yield shown.place_check(database, one)
    yield views.partition_check(database)
    yield watermarks.partition_check(database, delay)
    yield watermarks.stream_check(database)
    yield views.clock_check(database)
    yield views.state_check(database)
    yield outbox.rise_check(database)
    windows.judge(database, window_sizes, lateness)
    yield identity_check(database, window_sizes, lateness)
    for grouping in settings.groupings:
        windows.make_windows(database, grouping, lateness, watermarks.stream_watermark(database))
        retained.drop_windows(database, windows.made(grouping), grouping.table)
        yield windows.window_check(database, grouping)
    retained.drop_windows(database, stored.REVISIONS, "window_results", *(v.name for v in settings.views))
    for view in settings.views:
        yield categories.view_check(database, view)
    yield results.window_results(database, settings.groupings, lateness)
    yield stored.stored_revision_check(database)
    yield revision_check(database, settings.groupings, lateness)
    yield results.late_sales(database, window_sizes, lateness)
    yield results.late_table(database)
    yield outbox.outbox_check(database)
    yield letters
