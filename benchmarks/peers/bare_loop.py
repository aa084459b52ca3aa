"""The practical limit: a loop over confluent-kafka's consumer and producer that does nothing but the cleaning job.

No rebalances, no rules beyond one, no reasons with its dead letters, one entity, one schema, no metrics.
"""

import gc
import signal
import struct
import sys
import time

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from benchmarks.peers.arguments import Arguments
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.decoder import ROW, Values

_BATCH = 10_000
_COMMIT_EVERY_S = 1.0
_OFFSET = struct.Struct(">q").pack


def main(given: Arguments) -> None:
    """Work until SIGTERM."""
    # As the cleaner does: see its __main__.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    failed: list[KafkaError] = []
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: stopped.append(signum))
    consumer = Consumer(
        {
            "bootstrap.servers": given.servers,
            "group.id": given.group,
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 32768,
        }
    )
    consumer.assign([TopicPartition(given.source, p, 0) for p in range(given.partitions)])
    producer = Producer(
        {
            "bootstrap.servers": given.servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error),
        }
    )
    produce = producer.produce
    writer = RecordSchema(given.schema)
    committed = time.monotonic()
    ends: dict[int, int] = {}
    while not stopped:
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(_BATCH - 1, 0) if messages else []
        if errors := list(filter(None, map(Message.error, messages))):
            raise KafkaException(errors[0])
        values = list(map(Message.value, messages))
        # All records have one schema, whatever its id.
        decoded = writer.read(values, dict.fromkeys(Values.of(values).ids(), writer))
        topics = [given.clean] * len(values)
        for row in (*decoded.bad, *decoded.numbered.filter(pl.col("discount_applied") < 0)[ROW]):
            topics[row] = given.dead
        for topic, value, message in zip(topics, values, messages, strict=True):
            while True:
                try:
                    produce(
                        topic,
                        value,
                        message.key(),
                        message.partition(),
                        None,
                        None,
                        message.timestamp()[1],
                        [("source.offset", _OFFSET(message.offset()))],
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
        ends.update({m.partition(): m.offset() + 1 for m in messages})
        if ends and time.monotonic() - committed >= _COMMIT_EVERY_S:
            producer.flush()
            if failed:
                raise KafkaException(failed[0])
            consumer.commit(offsets=[TopicPartition(given.source, *end) for end in ends.items()], asynchronous=True)
            committed = time.monotonic()


if __name__ == "__main__":
    main(Arguments.parse(sys.argv[1]))
