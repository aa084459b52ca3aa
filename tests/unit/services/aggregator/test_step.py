"""The pure part of the aggregator against a brute-force oracle: random streams, skew, duplicates, idle partitions.

Cuts, owners, restarts and steps that roll back are random too; some warehouses are made anew with the recorded rises.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.harness.sales_streams import disagreements

SEEDS = 2_000
WORKERS = 2


def test_windows_late_sales_and_watermarks_are_those_of_a_brute_force_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    # Frames of a few rows: polars' threads would only get into each other's way.
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    monkeypatch.syspath_prepend(Path(__file__).parents[4])  # which the workers inherit
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        parts = [range(i, i + 50) for i in range(0, SEEDS, 50)]
        assert [wrong for part in pool.map(disagreements, parts) for wrong in part] == []
