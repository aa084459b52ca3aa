"""What the cleaner adds between the arrival of a record on the raw topic and that of its clean one.

BENCH_SECONDS (60) and BENCH_SALES_PER_S (5000) say how much.
"""

import os
import threading
import time

import numpy as np
from confluent_kafka import Producer, TopicPartition

from benchmarks.cleaner.contestants import OURS, contestant
from benchmarks.cleaner.running import running, say_goal
from benchmarks.cleaner.sales import pool
from benchmarks.cleaner.world import CLEAN, PARTITIONS, SALES, World, world
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name

_WARM_UP_S = 10
_PATIENCE_S = 30.0
_TICK_S = 0.01
_GOAL_S = 0.06

#: (partition, offset on the raw topic) → when its record was seen, monotonic seconds
Seen = dict[tuple[int, int | None], float]


def main() -> int:
    """Print quantiles of (clean record seen − raw record seen), by two consumers with the same settings."""
    seconds = int(os.environ.get("BENCH_SECONDS", "60"))
    rate = int(os.environ.get("BENCH_SALES_PER_S", "5000"))
    raw: Seen = {}
    clean: Seen = {}
    with world() as w, running(w, contestant(OURS, w)):
        stopped = threading.Event()
        watchers = [
            threading.Thread(target=_watch, args=(w, topic, seen, stopped))
            for topic, seen in ((SALES, raw), (CLEAN, clean))
        ]
        try:
            for thread in watchers:
                thread.start()
            began = _publish(w, rate, seconds + _WARM_UP_S)
            deadline = time.monotonic() + _PATIENCE_S
            while len(clean) < w.count(CLEAN) or w.count(CLEAN) < 0.98 * len(raw):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.2)
        finally:
            stopped.set()
            for thread in watchers:
                thread.join()
    warm = began + _WARM_UP_S
    added = np.array([clean[place] - at for place, at in raw.items() if at >= warm and place in clean])
    p50, p99, most = np.quantile(added, [0.5, 0.99, 1])
    print(f"\nlatency: {rate:,} sales/s for {seconds} s, {len(added):,} clean records")
    print(f"latency: added p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, longest {most * 1e3:.0f} ms")
    say_goal("latency: added p99 / 60 ms", p99 / _GOAL_S, "<=", 1)
    return 0


def _publish(w: World, rate: int, seconds: int) -> float:
    """Publish evenly; returns when that began, monotonic seconds."""
    sales = pool(w)
    producer: Producer = clients.producer(w.connections)
    sent, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        while sent < (now - began) * rate:
            key, value = sales[sent % len(sales)]
            producer.produce(SALES, value, key)
            sent += 1
        producer.poll(0)
        time.sleep(_TICK_S)
    producer.flush()
    return began


def _watch(w: World, topic: str, seen: Seen, stopped: threading.Event) -> None:
    quick = {"enable.partition.eof": False, "fetch.wait.max.ms": 5}
    consumer = clients.consumer(w.connections, f"watch.{topic}", **quick)
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    while not stopped.is_set():
        messages = consumer.consume(1, 0.05)
        if messages:
            messages += consumer.consume(5000, 0)
        now = time.monotonic()
        for m in messages:
            if m.error() is None:
                offset = m.offset() if topic == SALES else big_endian(headers_by_name(m).get(SOURCE_OFFSET))
                seen.setdefault((m.partition(), offset), now)
    consumer.close()
