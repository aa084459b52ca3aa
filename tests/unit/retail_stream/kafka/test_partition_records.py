"""Records of a partition are found by their offsets, however many pieces hold them."""

from typing import Any

import numpy as np
import pytest

from retail_stream.kafka.partition_records import PartitionRecords


class Piece:
    """Two records at even offsets, and how often the offsets of such pieces were looked at."""

    looks = 0

    def __init__(self, first: int) -> None:
        self.first = first

    def __len__(self) -> int:
        return 2

    @property
    def offset(self) -> np.ndarray:
        Piece.looks += 1
        return np.array([self.first, self.first + 2])


def records(pieces: int) -> PartitionRecords:
    made: Any = tuple(Piece(4 * i) for i in range(pieces))
    return PartitionRecords(made, 0, 4 * pieces)


def test_each_record_is_found_in_its_piece() -> None:
    some = records(5)
    for offset in range(0, 20, 2):
        piece, row = some.find(offset)
        assert piece.offset[row] == offset
    for gap in (-1, 1, 3, 17, 19, 21):
        with pytest.raises(KeyError):
            some.find(gap)


def test_a_record_among_a_thousand_pieces_costs_a_few_looks() -> None:
    # Quiet traffic leaves a piece for each sale: to look through all of them for each late sale stopped a rebuild.
    some, Piece.looks = records(1024), 0
    some.find(4000)
    assert Piece.looks <= 15
