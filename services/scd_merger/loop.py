"""The merger's loop: poll, take, hint, until told to stop."""

import threading
import time

import structlog

from retail_stream.errors import Fenced, Unavailable
from retail_stream.waiting import Stopped
from services.scd_merger import metrics
from services.scd_merger.batch import Merger
from services.scd_merger.reader import Reader

_BREATH_S = 1.0
_log = structlog.get_logger(__name__)


def run(reader: Reader, merger: Merger, stop: threading.Event) -> None:
    """Merge what comes until ``stop`` is set, then leave the group.

    Raises:
        PoisonRecord: one record cannot be stored; whatever else came is.
    """
    reader.join()
    try:
        while not stop.is_set():
            try:
                if batch := reader.poll():
                    with metrics.BATCH_SECONDS.time():
                        reader.moved(merger.take(reader.positions, batch))
                reader.hint(time.monotonic())
            except Fenced as e:
                metrics.FENCED.inc()
                _log.warning("fenced", why=str(e))
                reader.rejoin()
            except Unavailable as e:
                _log.warning("reading again from the stored positions", why=str(e))
                stop.wait(_BREATH_S)
                reader.rejoin()
    except Stopped:
        pass
    finally:
        reader.leave()
