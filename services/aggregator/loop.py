"""The aggregator's loop: gather a batch → decide (step.py) → apply it in one transaction, while the next is gathered.

One batch ahead: a thread of its own stores batch n while the loop reads and decodes batch n + 1::

    loop     read 1 ─┐ read 2 ─────┐     read 3 ──┐   read 4
                     ▼             ▼ wait         ▼ wait
    thread           [ store 1 ]   [ store 2 ──── ][ store 3 ]

Batch n + 1 is handed over when batch n is committed. If batch n failed, n + 1 is dropped, and both are read again from
the stored positions. Times of the real world enter here: a monotonic clock for idleness.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import structlog

from retail_stream.errors import Fenced, Unavailable
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.waiting import Stopped
from services.aggregator import metrics
from services.aggregator.batch import CLEAN, Aggregator, Applied
from services.aggregator.ownership import OwnedPartition
from services.aggregator.quiet import QuietPartitions
from services.aggregator.upstream import Upstream

#: About 200,000 sales, with their positions: half as many stored windows are read and written again as with 2**24.
MOST_BYTES = 2**25
_LINGER_S = 0.05
_TICK_S = 0.5
_RETRY_S = 1.0
_log = structlog.get_logger(__name__)


class Loop:
    """A member of the consumer group and the one transaction that it has in flight."""

    def __init__(
        self,
        join: Callable[..., BlockingMembership[OwnedPartition]],
        aggregator: Aggregator,
        upstream: Upstream,
        idle_timeout_s: float,
        stop: threading.Event,
    ) -> None:
        """``join``: makes a membership of topics, with its callbacks. Opens nothing before :meth:`run`."""
        self.membership = join([CLEAN], self._claim, self._finish_anyway)
        self._aggregator, self._stop = aggregator, stop
        self._quiet = QuietPartitions(upstream.drained, idle_timeout_s)
        self._thread = ThreadPoolExecutor(1, "store")
        self._in_flight: Future[Applied] | None = None
        self._ticked_at = 0.0  # monotonic seconds

    def run(self) -> None:
        """Aggregate what comes until ``stop`` is set, then leave the group.

        Raises:
            SettingsError: a replica has stored other settings.
            PoisonRecord: a record of `sales.clean` is not a clean record.
        """
        try:
            self.membership.join()
            while not self._stop.is_set():
                try:
                    self._read_and_store()
                except Fenced as e:
                    metrics.FENCED.inc()
                    _log.warning("fenced, joins the group again", why=str(e))
                    self.membership.rejoin()
                except Unavailable as e:
                    _log.warning("joins the group again", why=str(e))
                    self._stop.wait(_RETRY_S)
                    self.membership.rejoin()
        except Stopped:
            pass
        finally:
            self._finish_anyway()
            self.membership.leave()
            self._thread.shutdown()

    def _read_and_store(self) -> None:
        records = self.membership.poll(MOST_BYTES, _LINGER_S)
        rows = self._aggregator.rows(records)
        try:
            self._finish()
            if not self.membership.follows(records):
                self._quiet.forget()
                self.membership.read_stored()
            elif self.membership.owned and (records or time.monotonic() - self._ticked_at >= _TICK_S):
                idle = self._idle(records)
                self._in_flight = self._thread.submit(
                    _timed, partial(self._aggregator.store, self.membership.owned, records, rows, idle)
                )
                self._ticked_at = time.monotonic()
            self.membership.commit(time.monotonic())
        except Unavailable as e:
            # Whether the transaction was committed is not known; the stored positions decide.
            _log.warning("reads again from the stored positions", why=str(e))
            self.membership.reclaim()

    def _finish(self) -> None:
        """Wait for the transaction in flight, if there is one.

        Raises:
            Unavailable: Postgres went away; whether the transaction was committed is not known.
            Fenced: another worker owns one of our partitions; the transaction was rolled back.
        """
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            applied = in_flight.result()
            self.membership.advance(applied.owned)
            metrics.count(applied)

    def _finish_anyway(self) -> None:
        """Wait for the transaction in flight, whatever its outcome: reading goes on at the stored positions."""
        try:
            self._finish()
        except (Unavailable, Fenced) as e:
            _log.warning("not known whether the last batch was stored", why=str(e))
        except Stopped:
            pass  # It waited for a lock; nothing was stored.
        metrics.forget()

    def _claim(self, partitions: list[TopicPartitionKey]) -> Mapping[TopicPartitionKey, OwnedPartition]:
        self._quiet.forget()
        return self._aggregator.claim(partitions)

    def _idle(self, records: Mapping[TopicPartitionKey, PartitionRecords]) -> frozenset[int]:
        """Our partitions that are idle: quiet (read to the end, the cleaner at the raw end) for the idle timeout."""
        owned = self.membership.owned
        ends = {
            tp[1]: max(end, owned[tp].next_offset)
            for tp, end in self.membership.at_end.items()
            if tp in owned and not len(records.get(tp, ()))
        }
        return self._quiet.idle(ends)


def _timed(store: Callable[[], Applied]) -> Applied:
    with metrics.STEP.time():
        return store()
