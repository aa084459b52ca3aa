"""A dimension as people ask for it: its current rows, and its rows as of any moment."""

import random

from sqlalchemy import Engine, text

from services.scd_merger.merge import merge
from services.scd_merger.tables import DimensionTable
from tests.harness.scd_oracle import history, last_write_wins, oracle
from tests.integration.services.scd_merger.products import EPOCH, PRODUCTS, changes_of


def test_current_rows_and_those_of_any_moment_are_what_the_oracle_says(warehouse: Engine) -> None:
    events = [event for first in range(0, 100, 5) for event in history(random.Random(first), first)]
    table, batch = DimensionTable(PRODUCTS), changes_of(events)
    with warehouse.begin() as connection:
        table.apply(connection, merge(PRODUCTS, batch, table.gather(connection, batch)))
    shown = "SELECT product_id, name, price::float8 FROM"
    moment = "timestamptz 'epoch' + (:at) * interval '1 microsecond'"
    with warehouse.connect() as connection:
        current = {key: tuple(rest) for key, *rest in connection.execute(text(f"{shown} products_current"))}
        assert current == last_write_wins(events)
        versions = oracle(events)
        for at in (-1, 0, 7, 19, 20, 150, 10_000):
            found = connection.execute(text(f"{shown} products_as_of({moment})"), {"at": EPOCH + at}).all()
            valid = [(k, n, p) for k, start, end, n, p in versions if start <= at and (end is None or at < end)]
            assert sorted(tuple(row) for row in found) == sorted(valid), at
            of_one = text(f"{shown} products_as_of({moment}, :key)")
            keys = sorted({k for k, *_ in versions})
            by_key = [tuple(r) for k in keys for r in connection.execute(of_one, {"at": EPOCH + at, "key": k})]
            assert sorted(by_key) == sorted(valid), at
        assert len(valid) == len(current) > 0
