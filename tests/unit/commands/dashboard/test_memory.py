"""What the page's process keeps does not grow with the rounds that it has worked.

`python -m benchmarks dashboard-memory` watches the memory of a real one for an hour.
"""

import gc
import sys
from itertools import count
from types import SimpleNamespace

import pytest

from commands.dashboard import probes, snapshot
from commands.dashboard.probes import Probes
from commands.dashboard.trends import Trends
from tests.unit.commands.dashboard.test_dashboard import request
from tests.unit.commands.dashboard.test_snapshots import fake_snapshots
from tests.unit.commands.dashboard.test_web import page


def test_memory_does_not_grow_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count(1_800_000_000, 2)
    monkeypatch.setattr(snapshot.time, "time", lambda: float(next(seconds)))
    metrics = 'cleaner_rules_broken_total{{action="warn",entity="sales",rule="odd {}"}} 2.0\n'
    turns = count()
    monkeypatch.setattr(probes, "_get", lambda *_: (metrics.format(next(turns)), ""))
    services = Probes({"cleaner": ("cleaner", 9100)})
    monkeypatch.setattr(services, "_addresses", lambda *_: [f"10.0.0.{next(turns)}:9100"])
    snapshots = fake_snapshots()
    snapshots._services = services
    # What fills within minutes is full after few rounds.
    snapshots.trends = Trends(kept=20)
    monkeypatch.setattr(snapshot, "_MOST_RULES", 20)
    letters = SimpleNamespace(total=0, newest=lambda *_: [{"rules": [str(next(turns))] * 20}] * 20)
    asked = page(letters)
    asked._snapshots = asked.streams._snapshots = snapshots

    def work(rounds: int) -> int:
        """Blocks of memory in use after so many rounds of two seconds, each with new replicas, rules and requests."""
        for _ in range(rounds):
            letters.total = n = next(turns)
            snapshots._update("services", snapshots._read_services(), None)
            snapshots._update("letters", {"letters": {"total": n, "skipped": 0}}, f"Kafka said {n}." if n % 2 else None)
            snapshots._update("topics", {"flow": {"raw": {"total": n, "per_s": 3.5}}, "lag": {"cleaner": n}}, None)
            snapshots._update("warehouse", {"stream": {"watermark": float(n)}}, None)
            assert asked.streams.look()
            assert asked.letters(request(f"limit={n % 200 + 1}")).status_code == 200
        gc.collect()
        return sys.getallocatedblocks()

    full = work(100)
    later = work(300)
    print(f"{full:,} blocks, then {later:,}")
    # One that each round left behind would be 300.
    assert later < full + 150
