"""How far the cleaner's committed offsets trail what it has acknowledged, at full speed."""

import re
import time
import urllib.request

from confluent_kafka import Consumer, TopicPartition

from benchmarks.cleaner.contestants import Contestant
from benchmarks.cleaner.running import check, running, say_goal
from benchmarks.cleaner.world import PARTITIONS, SALES, World
from commands.embedded.settings import Ports
from retail_stream.kafka import clients

_EVERY_S = 0.1
# What all contestants are asked for; the cleaner commits more often, to keep it.
_COMMIT_INTERVAL_S = 1.0
_LAG = re.compile(rf'^cleaner_lag_records{{partition="(\d)",topic="{re.escape(SALES)}"}} (\S+)$', re.MULTILINE)

Offsets = dict[int, int]


def trail(w: World, who: Contestant) -> None:
    """Run it over the whole topic and print the worst case.

    What counts is the age of the oldest look at which an offset was acknowledged that is not committed now.
    """
    ends = {p: end for (_, p), end in w.ends(SALES).items()}
    port = Ports.free().registry
    asking = clients.consumer(w.connections, who.group)
    looks: list[tuple[float, Offsets]] = []
    worst_s, later_s, worst_records = 0.0, 0.0, 0
    with running(w, who, METRICS_PORT=str(port)) as started:
        while not looks or looks[-1][1] != ends:
            check(started)
            now = time.monotonic()
            if acknowledged := _acknowledged(port, ends):
                looks.append((now, acknowledged))
                committed = _committed(asking)
                for p, offset in committed.items():
                    uncommitted = [t for t, at in looks if at.get(p, 0) > offset]
                    age = now - min(uncommitted, default=now)
                    worst_s, later_s = max(worst_s, age), max(later_s, age if offset else 0.0)
                    worst_records = max(worst_records, acknowledged.get(p, 0) - offset)
            time.sleep(_EVERY_S)
    asking.close()
    print(
        f"\ncommitted offsets, looked at each {_EVERY_S} s: at worst {worst_records:,} records of a partition behind,"
    )
    print(f"an acknowledged offset uncommitted for {worst_s:.2f} s, after a partition's first commit {later_s:.2f} s")
    say_goal("longest that an acknowledged offset was not committed / 1 s", worst_s / _COMMIT_INTERVAL_S, "<=", 1)


def _acknowledged(port: int, ends: Offsets) -> Offsets:
    """By partition, from its lag; nothing as long as it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {int(p): ends[int(p)] - int(float(lag)) for p, lag in _LAG.findall(text)}


def _committed(asking: Consumer) -> Offsets:
    answer = asking.committed([TopicPartition(SALES, p) for p in range(PARTITIONS)], timeout=10)
    return {tp.partition: max(tp.offset, 0) for tp in answer}
