"""Faust over record batches: an agent gets many records of one partition as one value.

    app = App("cleaner", broker="kafka://127.0.0.1:9092")

    @app.agent(app.topic("sales.raw"))
    async def sales(chunks):
        async for chunk in chunks:      # a Chunk: topic, partition, records, first_offset, next_offset
            ...                         # done with it when the next one is asked for

    sys.exit(run(app, stop))

Stock Faust costs about 80 µs a record, nearly all of it bookkeeping; here a chunk of thousands costs as much.

Guarantees: at least once; in order within a partition; a chunk is acknowledged when its agent asks for the next one,
never when it raised or was cancelled; committed offsets trail the acknowledged ones by one commit interval at most, and
end at the end of the log, even behind a transaction marker.  Only committed records are read.

Limits: one agent for each topic with concurrency 1; no tables; no ``take()``, which acknowledges in ``finally``.
"""

from services.cleaner.transport.app import App
from services.cleaner.transport.chunks import Chunk, Chunking
from services.cleaner.transport.positions import Progress
from services.cleaner.transport.worker import run

__all__ = ["App", "Chunk", "Chunking", "Progress", "run"]
