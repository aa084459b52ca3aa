"""Damaged payloads: each is a value or an error, and the compiled decoder and the one in Python say the same."""

import os
from random import Random

import numpy as np
import pytest

from retail_stream.avro import passes, reference
from retail_stream.avro.decoder import Values
from retail_stream.avro.plan import Columns, Fault, Group, Plan, Ranges
from retail_stream.avro.reader import Reader
from retail_stream.avro.resolution import resolve
from tests.harness.avro_evolutions import evolution
from tests.harness.avro_values import varint

PER_SCHEMA = 250
_HUGE = (2**31, 2**40, 2**62, 2**63 - 1, -(2**63), -1, -(2**31), 10**6)


def mutated(rng: Random, body: bytes, other: bytes) -> bytes:
    out = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(9):
            case 0 | 1 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 2:
                del out[at:]
            case 3:
                out.insert(at, rng.randrange(256))
            case 4 if out:
                out[at % len(out)] = 255
            case 5:
                out[at : at + 1] = varint(rng.choice(_HUGE))
            case 6:
                out[at:] = other[rng.randrange(len(other) + 1) :]
            case 7:
                out[at:at] = rng.choice([b"\x80" * 9 + b"\x01", b"\xff" * 11, b"\x82\x80\x00", b"\0" * 20])
            case _:
                out[at : at + 2] = rng.randbytes(rng.randrange(6))
    return bytes(out)


def run(reader: Reader, plan: Plan, bodies: list[bytes]) -> int:
    """Decode the bodies by both; how many are good."""
    values = Values.of(bodies)
    groups = [Group(plan, np.arange(len(bodies)))]
    compiled = passes.decode(reader, groups, values.buffer, values.begins, values.ends)
    plain = reference.decode(reader, groups, values.buffer, values.begins, values.ends)
    assert _comparable(reader, *compiled) == _comparable(reader, *plain)
    faults = compiled[0].fault
    for fault, where in zip(faults[faults > 0].tolist(), compiled[0].where[faults > 0].tolist(), strict=True):
        assert plan.sentence(fault, where)
    return int((faults == Fault.NONE).sum())


def _comparable(reader: Reader, columns: Columns, ranges: list[Ranges]) -> list[object]:
    """All that a pass wrote, without the values of bad records."""
    good = columns.fault == Fault.NONE
    slots = [columns.values[c.slot : c.slot + c.cells].reshape(-1, c.cells)[good].tolist() for c in reader.fields]
    places = [r.places[:, good].tolist() for r in ranges]
    branches = [r.branch[good].tolist() for r in ranges]
    return [columns.fault.tolist(), columns.where.tolist(), slots, columns.valid[:, good].tolist(), places, branches]


def _mutate_all(seed: int, count: int) -> None:
    rng = Random(seed)
    done = good = 0
    while done < count:
        e = evolution(rng)
        reader = Reader(e.reader)
        plan = resolve(e.writer, reader, e.references)
        if plan.refusal:
            continue
        bodies = [r.body for r in e.records]
        damaged = [mutated(rng, rng.choice(bodies), rng.choice(bodies)) for _ in range(PER_SCHEMA)]
        readable = run(reader, plan, damaged)
        done += PER_SCHEMA
        good += readable
    # Neither all nor none of them survive.
    assert 0 < good < count


def test_twenty_thousand_damaged_records_are_values_or_errors():
    _mutate_all(1, 20_000)


@pytest.mark.long
def test_many_damaged_records_are_values_or_errors():
    """DAMAGED_RECORDS=1000000 in the environment makes them a million."""
    _mutate_all(2, int(os.environ.get("DAMAGED_RECORDS", "200000")))
