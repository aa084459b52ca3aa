"""Dead letters: the rejected records as batches for ``<entity>.dlq``."""

from collections.abc import Mapping, Sequence

import numpy as np

from retail_stream import dead_letters
from retail_stream.dead_letters import IN_RAW_TOPIC
from retail_stream.errors import Rejected
from retail_stream.kafka.record_batches.added_headers import Header, one_by_one
from retail_stream.kafka.record_batches.columns import Columns, Integers
from retail_stream.kafka.record_batches.outgoing import OutgoingBatch, build


class TooLargeLetter(Exception):
    """A dead letter is too large for its topic even without key, value and headers of its own."""


def letters(
    columns: Columns, rejected: Mapping[int, Rejected], bare: Integers, version: str, limit: int
) -> list[OutgoingBatch]:
    """Batches of the rejected records, in order, with the headers that say why.

    ``bare``: rejected records whose letters have no key and value. So have those that exceed ``limit``, the largest
    batch of the topic; a header says that the raw topic has them. ``version``: of the rules that judged them.

    Raises:
        TooLargeLetter: ``limit`` is smaller than the headers of a letter.
    """
    rows = np.array(sorted(rejected), np.int64)
    headers: dict[int, Sequence[Header]] = {
        row: dead_letters.headers(columns.topic, columns.partition, int(columns.offset[row]), rejected[row], version)
        for row in rows.tolist()
    }
    whole = rows[~np.isin(rows, bare)]
    made = build(columns, whole, one_by_one([headers[row] for row in whole.tolist()]), limit)
    batches = [*made.batches]
    bare = np.sort(np.concatenate([bare, made.too_large]))
    if len(bare):
        marked = one_by_one([[*headers[row], (dead_letters.Header.PAYLOAD, IN_RAW_TOPIC)] for row in bare.tolist()])
        made = build(columns.without_payload(bare), bare, marked, limit)
        batches += made.batches
        if len(made.too_large):
            raise TooLargeLetter(f"The dead letters of {columns.topic} need more than {limit:,} bytes")
    return batches
