"""The pure part of the aggregator against a brute-force oracle: random streams, skew, duplicates, idle partitions.

Cuts, owners, restarts and steps that roll back are random too; some warehouses are made anew with the recorded rises.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.harness.sales_streams import disagreements

SEEDS, PARTS = 2_000, 80
LONG = [pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS)]


@pytest.mark.parametrize("part", [0, *LONG])
def test_windows_late_sales_and_watermarks_are_those_of_a_brute_force_oracle(
    monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    # Frames of a few rows: polars' threads would only get into each other's way.
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    monkeypatch.syspath_prepend(Path(__file__).parents[4])  # which the process inherits
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(disagreements, range(part, SEEDS, PARTS)).result() == []
