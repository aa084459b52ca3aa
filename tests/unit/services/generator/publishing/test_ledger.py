"""The ledger has an entry for each fault, with what should happen to its record."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.entities import Entity
from services.generator.faults import Expected, Fault, expected
from services.generator.publishing.ledger import Ledger
from services.generator.publishing.publisher import Publisher
from services.generator.records import ProducerBatch, Tally
from tests.harness.generator_streams import HOSTILE, changes, sell
from tests.harness.rows import every_row

FAULTS = json.loads((topics.SCHEMAS / "results" / "generator.faults.avsc").read_text())


def test_a_record_that_must_be_refused_is_refused_for_all_its_faults() -> None:
    assert expected([Fault.RETURN, Fault.LATE_EVENT]) == {
        Fault.RETURN: Expected.KEPT,
        Fault.LATE_EVENT: Expected.LATE,
    }
    assert set(expected([Fault.RETURN, Fault.NEGATIVE_DISCOUNT, Fault.BURST]).values()) == {Expected.REJECTED}


def test_the_ledger_has_one_entry_for_each_fault_with_its_place() -> None:
    batch = ProducerBatch.of(sell(2000, HOSTILE))
    locations = {row: (row % 4, 10 * row) for row in batch.faults}
    entries = every_row(RecordSchema(FAULTS), Ledger(FAULTS, 1).entries(Entity.SALES, batch, locations))
    assert entries == [
        {
            "entity": "sales",
            "partition": row % 4,
            "offset": 10 * row,
            "id": batch.ids[row],
            "fault": fault,
            "expected": outcome,
        }
        for row, faults in batch.faults.items()
        for fault, outcome in expected(faults).items()
    ]
    assert len(entries) > 500


def test_batches_are_cut_and_joined_without_losing_a_fault_or_a_header() -> None:
    records = changes(Entity.CUSTOMERS, 800, HOSTILE)
    whole = ProducerBatch.of(records)
    joined = ProducerBatch()
    for start in range(0, len(whole), 97):
        joined.append(whole.part(start, start + 97))
    assert list(joined.records()) == records
    assert any(r.headers for r in records)


def test_a_duplicate_does_not_have_to_be_kept_whatever_other_faults_it_has() -> None:
    assert set(expected([Fault.DUPLICATE, Fault.RETURN, Fault.SILENCE]).values()) == {Expected.COUNTED_ONCE}


class Committed:
    """Transactions that always succeed."""

    def run(self, write: Callable[[Any], None]) -> None:
        pass

    def wait_until_readable(self, *names: str, patience_s: float) -> None:
        pass


def test_counts_that_a_thread_adds_up_do_not_change_meanwhile() -> None:
    publisher = Publisher(Entity.SALES, Committed(), Ledger(FAULTS, 1), threading.Event(), Tally())  # type: ignore[arg-type]
    before = publisher.counts.faults
    publisher.send(ProducerBatch.of(sell(200, HOSTILE)))
    publisher.flush()
    assert before == Counter()
    assert publisher.counts.faults[Fault.RETURN] > 0
