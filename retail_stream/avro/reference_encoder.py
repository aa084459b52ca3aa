"""The encoder in plain Python: what `writing.c` does, a value at a time, to read and to compare with."""

import struct

import numpy as np

from retail_stream.avro.plan import Bytes, Int64s, Job, Kind, NullValue


def encode(job: Job) -> tuple[Bytes, Int64s]:
    """The records of a job, one behind the other, and where each begins and the last one ends.

    Raises:
        NullValue: a record holds null where the target has a required field.
    """
    out = bytearray()
    offsets = []
    for item, row in enumerate(job.rows.tolist()):
        offsets.append(len(out))
        out += job.header
        for kind, slot, mark, null, value, *_ in job.steps.tolist():
            if mark >= 0 and not job.columns.valid[mark, row]:
                if null < 0:
                    raise NullValue(f"record {item} holds null in a field that the target requires")
                out += varint(null)
                continue
            if value >= 0:
                out += varint(value)
            out += _value(job, kind, slot, row)
        begins, ends = job.places[::2, item].tolist(), job.places[1::2, item].tolist()
        for begin, end in zip(begins, ends, strict=True):
            out += job.buffer[begin:end].tobytes()
    return np.frombuffer(bytes(out), np.uint8), np.array([*offsets, len(out)])


def varint(number: int) -> bytes:
    """A zigzag varint: seven bits a byte, lowest first; 0, -1, 1, -2 are 0, 1, 2, 3."""
    raw = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    return bytes([*out, raw])


def _value(job: Job, kind: int, slot: int, row: int) -> bytes:
    if kind in (Kind.BYTES, Kind.STRING, Kind.FIXED):
        text = _viewed(job, job.columns.values[slot : slot + 2].reshape(-1, 2)[row].tobytes())
        return text if kind == Kind.FIXED else varint(len(text)) + text
    cell = int(job.columns.values[slot, row])
    match kind:
        case Kind.BOOLEAN:
            return bytes([cell])
        case Kind.FLOAT:
            return struct.pack("<f", struct.unpack("<d", struct.pack("<q", cell))[0])
        case Kind.DOUBLE:
            return struct.pack("<q", cell)
        case _:
            return varint(cell)


def _viewed(job: Job, cell: bytes) -> bytes:
    size = int.from_bytes(cell[:4], "little")
    if size <= 12:
        return cell[4 : 4 + size]
    in_pool, at = int.from_bytes(cell[8:12], "little"), int.from_bytes(cell[12:], "little")
    return job.pool[at : at + size] if in_pool else job.buffer[at : at + size].tobytes()
