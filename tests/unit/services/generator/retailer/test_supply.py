"""Sales know the dimensions up to a boundary, and wait until that much is on the topics."""

from services.generator.records import ProducerBatch, ProducerRecord
from services.generator.retailer.supply import Availability, Supply, boundary, last_of_cell

SECOND = 1_000_000


def records(*made: tuple[int, int]) -> ProducerBatch:
    """Records by id and time."""
    return ProducerBatch.of([ProducerRecord(b"", b"", at, i) for i, at in made])


def test_sales_wait_for_the_slowest_acknowledgement_up_to_the_boundary() -> None:
    supply = Supply()
    supply.add(Availability(10, 1), on_topic=False)
    supply.add(Availability(20, 2), on_topic=False)
    supply.made(before_us=15)
    assert not supply.ready(10)
    supply.delivered(records((1, 10)))
    assert supply.ready(10)
    assert not supply.ready(15)  # the dimension may yet make something at 15
    supply.made(before_us=30)
    assert supply.ready(15)
    assert not supply.ready(20)  # id 2 is not on the topic
    assert supply.take(15) == [Availability(10, 1)]
    supply.delivered(records((2, 20)))
    assert supply.take(20) == [Availability(20, 2)]


def test_all_sales_of_a_second_know_the_same_boundary() -> None:
    start = 500
    assert boundary(start, start + SECOND) == start
    assert boundary(start, start + 2 * SECOND - 1) == start
    assert last_of_cell(start, start + SECOND) == start + 2 * SECOND - 1
    assert boundary(start, start + 2 * SECOND) == start + SECOND
