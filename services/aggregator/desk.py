"""What the aggregator's loop works with: the handles that `__main__.py` builds."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer
from sqlalchemy import Engine

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.waiting import wait_for
from services.aggregator.outbox import Encoder
from services.aggregator.settings import AggregatorSettings
from services.aggregator.upstream import Upstream

T = TypeVar("T")


@dataclass(frozen=True)
class Desk:
    """What the loop works with. ``sale``: the reader's schema; ``published``: to be called when the outbox grew.

    ``assigned`` is set while the group has given this worker its share, be it nothing.
    """

    settings: AggregatorSettings
    topic: str
    engine: Engine
    consumer: Callable[[], Consumer]
    writers: SubjectSchemas
    rise_writers: SubjectSchemas
    sale: RecordSchema
    encoder: Encoder
    upstream: Upstream
    published: Callable[[], None]
    stop: threading.Event
    assigned: threading.Event

    def wait(self, action: Callable[[], T]) -> T:
        """Wait for a server.

        Raises:
            Stopped: the program is to stop.
        """
        return wait_for(action, stop=self.stop)
