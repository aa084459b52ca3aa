"""Columns encoded at once have the bytes that fastavro writes row by row."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from services.generator.publishing.encoding import ColumnEncoder, RowEncoder
from services.generator.retailer.sales import VOCABULARIES

SALES = json.loads((topics.SCHEMAS / "raw" / f"{Entity.SALES}.avsc").read_text())
METHODS = VOCABULARIES["payment_method"]
INT, LONG = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
MONEY = st.floats(width=64)
ROW = st.fixed_dictionaries(
    {
        "transaction_id": LONG,
        "store_id": INT,
        "event_time": LONG,
        "customer_id": INT,
        "product_id": INT,
        "quantity": INT,
        "unit_price": MONEY,
        "total_amount": MONEY,
        "payment_method": st.integers(0, len(METHODS) - 1),
        "discount_applied": MONEY,
        "tax_amount": MONEY,
    }
)


@given(rows=st.lists(ROW, max_size=8), schema_id=st.integers(1, 2**31 - 1))
def test_every_row_has_the_bytes_that_fastavro_gives_it(rows: list[dict], schema_id: int) -> None:
    names = [f["name"] for f in SALES["fields"]]
    columns = {name: np.array([row[name] for row in rows] or np.zeros(0, np.int64)) for name in names}
    one_by_one = RowEncoder(SALES, schema_id)
    wanted = [one_by_one({**row, "payment_method": METHODS[row["payment_method"]]}) for row in rows]
    assert ColumnEncoder(SALES, schema_id, VOCABULARIES)(columns, len(rows)) == wanted


def test_a_nullable_text_is_written_behind_its_branch() -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "channel", "type": ["null", "string"]}]}
    values = ColumnEncoder(schema, 7, {"channel": ("store", "online")})({"channel": np.array([1, 0])}, 2)
    assert values == [RowEncoder(schema, 7)({"channel": c}) for c in ("online", "store")]


def test_a_type_that_it_cannot_write_is_named() -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "tags", "type": {"type": "array", "items": "int"}}]}
    with pytest.raises(RetailStreamError, match="field tags"):
        ColumnEncoder(schema, 7, {})
