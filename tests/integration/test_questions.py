"""docs/questions.md over a warehouse that is made up."""

import pytest
from sqlalchemy import Engine, text

from benchmarks.questions.document import questions

# Two windows of two minutes share the minute in which three of the four sales were.
_HOPPING = """
    INSERT INTO dim_stores (store_id, name, address, manager, open_date, status, phone_number, valid_from, valid_to)
    VALUES (7, 'Seven', '', '', 'epoch', '', '', 'epoch', NULL);
    INSERT INTO sales_by_window (window_size, window_start, window_end, store_id, transactions, units_sold,
        units_returned, gross_sales, returns_amount, discounts, taxes, revision, state, updated_at)
    SELECT '2 minutes', at, at + interval '2 minutes', 7, n, n, 0, 10 * n, 0, 0, 0, 0, 'fired', now()
    FROM (SELECT date_bin('2 minutes', now(), 'epoch') + more, n
          FROM (VALUES (interval '-1 minute', 3), ('0', 4), ('1 minute', 1)) v (more, n)) w (at, n);
    INSERT INTO window_revisions (kind, window_size, window_start, window_end, id, revision, transactions, units_sold,
        units_returned, gross_sales, returns_amount, discounts, taxes, published_at)
    SELECT 'store', window_size, window_start, window_end, store_id::text, 0, transactions, units_sold, units_returned,
           gross_sales, returns_amount, discounts, taxes, now()
    FROM sales_by_window
"""


@pytest.mark.parametrize(("number", "net_sales"), [(1, "net_sales"), (2, "now")])
def test_hopping_windows_count_a_sale_once(warehouse: Engine, number: int, net_sales: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(text(_HOPPING))
        found = connection.exec_driver_sql(questions()[number - 1].sql).mappings().all()
    assert sum(row[net_sales] for row in found) == 40
