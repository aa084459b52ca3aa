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


# Ada moved 40 days ago, and Bob within his city. The shirt has another price since 20 days.
_HISTORY = """
    INSERT INTO dim_stores (store_id, name, address, manager, open_date, status, phone_number, valid_from)
    SELECT i, 'Store ' || i, '', '', now() - opened, '', '', 'epoch'
    FROM (VALUES (1, interval '200 days'), (2, '200 days'), (3, '50 days')) v (i, opened);
    INSERT INTO dim_products
        (product_id, name, category, brand, price, stock_quantity, size, color, description, valid_from, valid_to)
    VALUES (1, 'Shirt', '', '', 10, 5, 'M', '', '', 'epoch', now() - interval '20 days'),
           (1, 'Shirt', '', '', 12, 5, 'M', '', '', now() - interval '20 days', NULL),
           (2, 'Shoe', '', '', 50, 5, 'M', '', '', 'epoch', NULL);
    INSERT INTO dim_customers (customer_id, name, email, address, join_date, loyalty_points, phone_number, age, gender,
        valid_from, valid_to)
    SELECT i, name, '', address, 'epoch', 0, '', 40, '', since, until
    FROM (VALUES (1, 'Ada', '1 Elm Street, Troy, NY 10001', 'epoch'::timestamptz, now() - interval '40 days'),
                 (1, 'Ada', '2 Elm Street, Avon, CO 10002', now() - interval '40 days', NULL),
                 (2, 'Bob', '3 Elm Street, Troy, NY 10001', 'epoch', now() - interval '40 days'),
                 (2, 'Bob', '4 Elm Street, Troy, NY 10001', now() - interval '40 days', NULL)
    ) v (i, name, address, since, until);
    SELECT make_fact_partition((now() - m * interval '1 month')::date) FROM generate_series(0, 3) m;
    INSERT INTO fact_sales (transaction_id, store_id, event_time, customer_id, product_id, quantity, unit_price,
        total_amount, payment_method, discount_applied, tax_amount, published_at, source_partition, source_offset)
    SELECT row_number() OVER (), store, now() - ago, customer, product, n, price, n * price, 'Card', 0, 0, now(), 0, n
    FROM (VALUES (1, interval '10 days', 1, 1, 2, 12), (1, '10 days', 1, 2, 1, 50), -- a basket
                 (1, '10 days', 1, 1, -1, 12), (2, '5 days', 1, 1, 3, 10), (2, '4 days', 1, 2, 1, 50),
                 (1, '45 days', 1, 1, 4, 10), (2, '35 days', 1, 1, 1, 10), (3, '35 days', 1, 2, 1, 50),
                 (2, '90 days', 2, 2, 2, 50), (2, '70 days', 2, 1, 1, 10)) v (store, ago, customer, product, n, price)
"""


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        # Store 3 was not open 60 days ago.
        (5, [("Store 2", 10, 80, 700), ("Store 1", 40, 62, 55)]),
        # The return of the shirt is no second basket.
        (10, [(1, 2, 1)]),
        (12, [("Shirt", 12, 3, 10)]),
        # Four sales of the last 40 days, and a return.
        (15, [(1, "Troy", "Avon", 7, 202)]),
        (17, [(2, "Bob", 110)]),
    ],
)
def test_histories_of_weeks_are_answered(warehouse: Engine, number: int, answer: list[tuple]) -> None:
    with warehouse.begin() as connection:
        connection.execute(text(_HISTORY))
        found = connection.exec_driver_sql(questions()[number - 1].sql).all()
    assert [tuple(row)[: len(answer[0])] for row in found] == answer
