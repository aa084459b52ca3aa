"""The merger's loop: poll a batch → store it → commit the positions, until a signal stops it."""

import threading
import time

import structlog

from retail_stream.errors import Fenced, Unavailable
from retail_stream.kafka.blocking_membership import BlockingMembership
from retail_stream.waiting import Stopped
from retail_stream.warehouse.positions import Position
from services.scd_merger import metrics
from services.scd_merger.batch import Merger

# Changes of one key that come together cost less than one by one. About 40,000 changes.
_MOST_BYTES = 3 * 2**22
_LINGER_S = 0.1
_RETRY_S = 1.0
# Without changes only this tells that the warehouse was emptied.
_LOOK_EVERY_S = 5.0
_log = structlog.get_logger(__name__)


def run(membership: BlockingMembership[Position], merger: Merger, stop: threading.Event) -> None:
    """Merge what comes until ``stop`` is set, then leave the group.

    Raises:
        PoisonRecord: one record cannot be stored; all others of its batch are, up to it in its own partition.
    """
    looked_at = time.monotonic()
    try:
        membership.join()
        while not stop.is_set():
            try:
                if batch := membership.poll(_MOST_BYTES, _LINGER_S):
                    with metrics.BATCH_SECONDS.time():
                        membership.advance(merger.store(membership.owned, batch))
                elif time.monotonic() - looked_at >= _LOOK_EVERY_S:
                    merger.require_owner(membership.owned)
                    looked_at = time.monotonic()
                membership.commit(time.monotonic())
            except Fenced as e:
                metrics.FENCED.inc()
                _log.warning("fenced, joins the group again", why=str(e))
                membership.rejoin()
            except Unavailable as e:
                _log.warning("joins the group again", why=str(e))
                stop.wait(_RETRY_S)
                membership.rejoin()
    except Stopped:
        pass
    finally:
        membership.leave()
