"""The pure part of the aggregator against a brute-force oracle: random streams, skew, duplicates, cuts, idle rises."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.unit.sales_streams import Feed, aggregate, disagreements, feed

SEEDS = 2_000
WORKERS = 2


def test_windows_late_sales_and_watermarks_are_those_of_a_brute_force_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    # Frames of a few rows: polars' threads would only get into each other's way.
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # which the workers inherit
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        parts = [range(i, i + 50) for i in range(0, SEEDS, 50)]
        assert [wrong for part in pool.map(disagreements, parts) for wrong in part] == []


def test_a_rebuild_that_applies_the_recorded_rises_comes_to_the_same_sums_and_late_sales() -> None:
    for seed in range(60):
        run = feed(seed)
        first, _, recorded = aggregate(run)
        rises = {p: [r for r in recorded if r.partition == p] for p in run.records}
        ends = {p: len(records) for p, records in run.records.items()}
        again = Feed(run.rules, run.records, [(ends, frozenset(), 0)])
        second, _, _ = aggregate(again, rises)
        assert second.late == first.late, f"seed {seed}"
        assert second.dropped == first.dropped, f"seed {seed}"
        assert {k: v[:-1] for k, v in second.rows.items()} == {k: v[:-1] for k, v in first.rows.items()}, f"seed {seed}"
