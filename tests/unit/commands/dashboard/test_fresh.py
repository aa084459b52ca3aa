"""Readings that many pages share."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from commands.dashboard.fresh import Fresh


def test_pages_that_ask_at_once_share_one_reading() -> None:
    reads: list[int] = []
    go = threading.Event()

    def read() -> int:
        go.wait(10)
        reads.append(1)
        return len(reads)

    fresh = Fresh(60)
    with ThreadPoolExecutor(8) as pages:
        answers = [pages.submit(fresh.get, "windows", read) for _ in range(8)]
        go.set()
        assert [a.result(10) for a in answers] == [1] * 8
    assert fresh.get("others", read) == 2


def test_a_reading_that_takes_long_is_used_longer() -> None:
    now = 0.0
    reads = 0

    def read() -> int:
        nonlocal now, reads
        now += 1.5
        reads += 1
        return reads

    fresh = Fresh(2, lambda: now)
    assert fresh.get("slow", read) == 1
    now += 14.9
    assert fresh.get("slow", read) == 1
    now += 0.2
    assert fresh.get("slow", read) == 2


def test_a_failure_is_not_kept_and_old_readings_go() -> None:
    fresh = Fresh(60)
    with pytest.raises(ZeroDivisionError):
        fresh.get("x", lambda: 1 // 0)
    assert fresh.get("x", lambda: 1) == 1
    for i in range(100):
        fresh.get(i, lambda: 0)
    assert fresh.get("x", lambda: 2) == 2
