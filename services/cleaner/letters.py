"""Dead letters: the rejected records as batches for ``<entity>.dlq``."""

from collections.abc import Iterable, Mapping

import numpy as np

from retail_stream import dead_letters
from retail_stream.dead_letters import IN_RAW_TOPIC, Header
from retail_stream.errors import Rejected
from retail_stream.kafka.record_batches.added_headers import AddedHeaders, encoded
from retail_stream.kafka.record_batches.columns import Columns, Integers
from retail_stream.kafka.record_batches.outgoing import OutgoingBatch, build
from retail_stream.kafka.record_batches.reference import encode_headers, varint

_OFFSET = varint(len(Header.OFFSET)) + Header.OFFSET.encode()


class TooLargeLetter(Exception):
    """A dead letter is too large for its topic even without key, value and headers of its own."""


def letters(
    columns: Columns, rejected: Mapping[int, Rejected], bare: Integers, version: str, limit: int
) -> list[OutgoingBatch]:
    """Batches of the rejected records, in order, with the headers that say why.

    ``bare``: rejected records whose letters have no key and value. So have those that were not read, and those that
    exceed ``limit``, the largest batch of the topic; a header says that the raw topic has them. ``version``: of the
    rules that judged them.

    Raises:
        TooLargeLetter: ``limit`` is smaller than the headers of a letter.
    """
    rows = np.array(sorted(rejected), np.int64)
    if columns.is_unread:
        bare = rows
    whole = rows[~np.isin(rows, bare)]
    made = build(columns, whole, _headers(columns, whole.tolist(), rejected, version), limit)
    batches = [*made.batches]
    bare = np.sort(np.concatenate([bare, made.too_large]))
    if len(bare):
        columns = columns.without_payload(bare)
        marked = _headers(columns, bare.tolist(), rejected, version, {Header.PAYLOAD: IN_RAW_TOPIC})
        made = build(columns, bare, marked, limit)
        batches += made.batches
        if len(made.too_large):
            raise TooLargeLetter(f"The dead letters of {columns.topic} need more than {limit:,} bytes")
    return batches


def _headers(
    columns: Columns,
    rows: Iterable[int],
    rejected: Mapping[int, Rejected],
    version: str,
    more: Mapping[str, bytes] | None = None,
) -> AddedHeaders:
    """The headers of some letters. All but the offset are alike for records with the same reasons: written once."""
    written: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
    texts = []
    count = len(Header) - 1 + len(more or {})
    for row in rows:
        why = rejected[row]
        alike = why.rules, why.stage, str(why)
        if alike not in written:
            headers = dead_letters.headers(columns.topic, columns.partition, 0, why, version)
            named = [(name.encode(), value) for name, value in (*headers, *(more or {}).items())]
            at = next(i for i, (name, _) in enumerate(headers) if name == Header.OFFSET)
            written[alike] = encode_headers(named[:at]), encode_headers(named[at + 1 :])
        before, behind = written[alike]
        texts.append(b"%b%b%b" % (before, _offset(int(columns.offset[row])), behind))
    return encoded(texts, count)


def _offset(offset: int) -> bytes:
    digits = b"%d" % offset
    return _OFFSET + varint(len(digits)) + digits
