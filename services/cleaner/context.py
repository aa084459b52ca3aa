"""What rules see of a record beside its fields: its Kafka key and timestamp, and of a delete its time."""

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_stream.avro import arrow
from retail_stream.avro.decoder import ROW, Decoded
from retail_stream.kafka.headers import SEQUENCE_TIME
from retail_stream.kafka.record_batches.columns import Columns, Integers, Row
from retail_stream.kafka.record_batches.headers import find_header
from services.cleaner.verdict import KEY, RECORD_TIME

_MICROSECONDS = 1000  # in a millisecond
# In microseconds some of Kafka's timestamps do not fit into 64 bits; all of those are far from any allowed year.
_FAR = 2**62 // _MICROSECONDS

#: An Arrow view holds text of up to this many bytes itself; of a longer one its first four bytes and its place.
_INLINE, _PREFIX = 12, 4
_WINDOW = 8
#: How many bytes of a window count → the bits of those bytes.
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(_WINDOW + 1)], np.uint64)


def with_context(decoded: Decoded, columns: Columns) -> pl.DataFrame:
    """The decoded fields with each record's ``row``, ``key`` (null if it is not UTF-8) and ``record_time``."""
    keys, times = pl.Series(KEY, _keys(columns)), pl.Series(RECORD_TIME, _record_times(columns))
    if len(decoded.rows) != len(columns):
        keys, times = keys.gather(decoded.rows), times.gather(decoded.rows)
    return decoded.numbered.with_columns(keys, times)


def tombstones(columns: Columns, rows: Integers) -> pl.DataFrame:
    """Deletes as rules see them: ``row``, ``key``, ``id``, ``record_time``, ``sequence_time``, ``sequence_time_valid``.

    ``id``: the number in the key, null if there is none. ``sequence_time``: the header's, where it is a number, else
    the record's timestamp; microseconds.
    """
    keys, times = _keys(columns).gather(rows), _record_times(columns)[rows]
    header = find_header(columns, SEQUENCE_TIME)
    is_number = header.is_number[rows]
    return pl.DataFrame(
        [
            pl.Series(ROW, rows),
            keys,
            keys.cast(pl.Int32, strict=False).alias("id"),
            pl.Series(RECORD_TIME, times),
            pl.Series("sequence_time", np.where(is_number, header.number[rows], times)),
            pl.Series("sequence_time_valid", is_number | ~header.is_present[rows]),
        ]
    )


def _record_times(columns: Columns) -> Integers:
    times: Integers = columns.timestamp.clip(-_FAR, _FAR) * _MICROSECONDS
    return times


def _keys(columns: Columns) -> pl.Series:
    keys = arrow.views(KEY, *_views(columns), (columns.buffer,), text=False)
    try:
        return keys.cast(pl.String)
    except pl.exceptions.ComputeError:
        # At least one is not UTF-8.
        return pl.Series(KEY, list(map(_text, keys)), dtype=pl.String)


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _views(columns: Columns) -> tuple[Integers, npt.NDArray[np.uint8] | None]:
    """Arrow's views of the keys, shape (records, 2), and flags of those that are there; None if all are."""
    at, size = columns.table[Row.KEY_AT], columns.table[Row.KEY_SIZE]
    there = size >= 0
    size = np.where(there, size, 0)
    data = columns.buffer
    if int(at.max(initial=0)) + _PREFIX + _WINDOW > len(data):
        data = np.concatenate([data, np.zeros(_PREFIX + _WINDOW, np.uint8)])
    # The eight bytes from every place on, as one number.
    windows = np.ndarray((len(data) - _WINDOW + 1,), "<u8", data, strides=(1,))
    first = windows[at] & _MASKS[np.minimum(size, _PREFIX)]
    cells = np.empty((len(at), 2), np.uint64)
    cells[:, 0] = size.astype(np.uint64) | first << np.uint64(32)
    cells[:, 1] = windows[at + _PREFIX] & _MASKS[np.clip(size - _PREFIX, 0, _WINDOW)]
    if len(longer := np.flatnonzero(size > _INLINE)):
        cells[longer, 1] = at[longer].astype(np.uint64) << np.uint64(32)
    return cells.view(np.int64), None if there.all() else there.astype(np.uint8)
