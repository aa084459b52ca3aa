"""Idle partitions: looks at the cleaner's lag that take their time, fail, or miss records that come meanwhile."""

import threading
from collections.abc import Iterable, Mapping

from retail_stream.errors import Unavailable
from services.aggregator.quiet import QuietPartitions
from tests.harness.eventually import eventually

TIMEOUT_S = 15


class Upstream:
    """Looks that end when they may, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ends: Mapping[int, int] | None = {0: 10, 1: 20}
        self.may_end = threading.Event()
        self.may_end.set()
        self.looks = 0
        self.quiet = QuietPartitions(self.look, TIMEOUT_S, lambda: self.now)

    def look(self, partitions: Iterable[int]) -> Mapping[int, int]:
        self.looks += 1
        assert self.may_end.wait(30)
        if self.ends is None:
            raise Unavailable("Kafka does not answer.")
        return {p: end for p, end in self.ends.items() if p in partitions}

    def pass_s(self, seconds: int, ends: Mapping[int, int]) -> frozenset[int]:
        """Time that passes second by second, with a look at each."""
        idle: frozenset[int] = frozenset()
        for _ in range(seconds):
            self.now += 1
            idle = self.quiet.idle(ends)
            looking = self.quiet._looking
            if looking is not None and self.may_end.is_set():
                looking.join(30)
        return idle


def test_partitions_are_idle_after_the_timeout_and_busy_at_once() -> None:
    upstream = Upstream()
    assert upstream.pass_s(TIMEOUT_S, {0: 10, 1: 20}) == frozenset()
    assert upstream.pass_s(2, {0: 10, 1: 20}) == {0, 1}
    assert upstream.pass_s(1, {1: 20}) == {1}
    assert upstream.pass_s(5, {0: 10, 1: 20}) == {1}, "its clock has begun anew"


def test_a_partition_that_is_not_read_to_the_cleaners_end_is_busy() -> None:
    assert Upstream().pass_s(TIMEOUT_S + 5, {0: 9, 1: 20}) == {1}


def test_records_that_come_during_a_look_restart_the_clock() -> None:
    upstream = Upstream()
    upstream.pass_s(TIMEOUT_S - 2, {0: 10, 1: 20})
    upstream.may_end.clear()
    upstream.pass_s(1, {0: 10, 1: 20})  # a look begins ...
    upstream.quiet.idle({1: 20})  # ... and 0 gets records
    upstream.ends = {0: 10, 1: 20}
    upstream.may_end.set()
    assert upstream.pass_s(TIMEOUT_S, {0: 11, 1: 20}) == {1}
    assert upstream.pass_s(3, {0: 11, 1: 20}) == {0, 1}


def test_no_partition_is_idle_while_the_lag_is_unknown() -> None:
    upstream = Upstream()
    assert upstream.pass_s(TIMEOUT_S + 2, {0: 10, 1: 20}) == {0, 1}
    upstream.ends = None
    assert upstream.pass_s(12, {0: 10, 1: 20}) == frozenset()
    upstream.ends = {0: 10, 1: 20}
    assert upstream.pass_s(TIMEOUT_S, {0: 10, 1: 20}) == frozenset(), "an outage upstream is not quiet"
    assert upstream.pass_s(3, {0: 10, 1: 20}) == {0, 1}


def test_a_look_that_hangs_stops_nothing() -> None:
    upstream = Upstream()
    upstream.pass_s(TIMEOUT_S + 2, {0: 10, 1: 20})
    upstream.may_end.clear()
    looks = upstream.looks
    assert upstream.pass_s(12, {0: 10, 1: 20}) == frozenset()
    assert upstream.looks == looks + 1
    upstream.may_end.set()
    eventually(lambda: not upstream.quiet._looking.is_alive(), "the look has ended", 30)  # type: ignore[union-attr]


def test_partitions_that_others_may_have_owned_start_anew() -> None:
    upstream = Upstream()
    assert upstream.pass_s(TIMEOUT_S + 2, {0: 10, 1: 20}) == {0, 1}
    upstream.quiet.forget()
    assert upstream.pass_s(TIMEOUT_S, {0: 10, 1: 20}) == frozenset()
