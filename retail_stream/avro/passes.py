"""The compiled passes of `records.c` and `writing.c`, called with arrays.

`reference.py` and `reference_encoder.py` have the same functions in Python.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retail_stream.avro.plan import Bytes, Columns, Group, Int64s, Job, NullValue, Ranges
from retail_stream.avro.reader import Reader
from retail_stream.wasm.module import Module

#: bytes that a pass may look at behind a buffer
_PADDING = 16

_RECORDS = Module(Path(__file__).with_name("records.wasm"))
_WRITING = Module(Path(__file__).with_name("writing.wasm"))


def decode(
    reader: Reader, groups: Sequence[Group], buffer: Bytes, begins: Int64s, ends: Int64s
) -> tuple[Columns, list[Ranges]]:
    """Decode the records ``buffer[begins[i]:ends[i]]``, each row by the plan of its group.

    Returns the columns of all rows, and the ranges of each group. Rows in no group are zeros.
    """
    n = len(begins)
    with _RECORDS.memory() as memory:
        data = memory.put(buffer)
        memory.reserve(_PADDING)
        begins_at, ends_at = memory.put(begins), memory.put(ends)
        values, valid = memory.reserve(8 * reader.slots * n), memory.reserve(reader.marks * n)
        fault, where = memory.reserve(n), memory.reserve(4 * n)
        covered = sum(len(g.rows) for g in groups)
        if covered < n:
            for address, size in (
                (values, 8 * reader.slots * n),
                (valid, reader.marks * n),
                (fault, n),
                (where, 4 * n),
            ):
                memory.view(address, np.uint8, size)[:] = 0
        ranges = []
        for group in groups:
            plan, rows = group.plan, len(group.rows)
            places, branch = memory.reserve(16 * plan.extras * rows), memory.reserve(4 * rows)
            tables = [memory.put(t) for t in (plan.nodes, plan.links, plan.constants)]
            memory.call(
                "decode", data, begins_at, ends_at, memory.put(group.rows), rows, n, *tables, values, valid, fault,
                where, places, plan.extras, branch,
            )  # fmt: skip
            ranges.append(
                Ranges(memory.read(places, np.int64, (2 * plan.extras, rows)), memory.read(branch, np.int32, rows))
            )
        columns = Columns(
            memory.read(values, np.int64, (reader.slots, n)),
            memory.read(valid, np.uint8, (reader.marks, n)),
            memory.read(fault, np.uint8, n),
            memory.read(where, np.int32, n),
        )
    return columns, ranges


def encode(job: Job) -> tuple[Bytes, Int64s]:
    """The records of a job, one behind the other, and where each begins and the last one ends.

    Raises:
        NullValue: a record holds null where the target has a required field.
    """
    rows, n = len(job.rows), job.columns.values.shape[1]
    with _WRITING.memory() as memory:
        data, pool = memory.put(job.buffer), memory.put(job.pool)
        # What is read beyond these ends is inside the memory, because more follows.
        values, valid = memory.put(job.columns.values), memory.put(job.columns.valid)
        header, steps = memory.put(job.header), memory.put(job.steps)
        wanted, places = memory.put(job.rows), memory.put(job.places)
        offsets, out = memory.reserve(8 * (rows + 1)), memory.reserve(job.room + _PADDING)
        size = memory.call(
            "encode", data, pool, values, valid, n, wanted, rows, header, len(job.header), steps, len(job.steps),
            places, len(job.places) // 2, out, offsets,
        )  # fmt: skip
        if size < 0:
            raise NullValue(f"record {-size - 1} holds null in a field that the target requires")
        return memory.read(out, np.uint8, size), memory.read(offsets, np.int64, rows + 1)
