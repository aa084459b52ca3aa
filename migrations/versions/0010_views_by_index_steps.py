"""Views that find a version by one step into an index, whatever the length of its history."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Replace the views of current versions, the functions of past ones, and the sums by category."""
    for entity, key in (("customers", "customer_id"), ("products", "product_id"), ("stores", "store_id")):
        op.execute(f"""
            -- The condition of the index dim_{entity}_one_open.
            CREATE OR REPLACE VIEW {entity}_current AS SELECT * FROM dim_{entity} WHERE valid_to IS NULL;
            DROP FUNCTION {entity}_as_of(timestamptz);
            CREATE FUNCTION {entity}_as_of(moment timestamptz, key integer DEFAULT NULL) RETURNS SETOF dim_{entity}
                LANGUAGE sql STABLE PARALLEL SAFE AS '
                SELECT * FROM (
                    SELECT * FROM dim_{entity} WHERE {key} = key AND valid_from <= moment
                    ORDER BY valid_from DESC LIMIT 1
                ) last WHERE valid_to > moment OR valid_to IS NULL
                UNION ALL
                SELECT * FROM dim_{entity}
                WHERE key IS NULL AND valid_from <= moment AND (valid_to > moment OR valid_to IS NULL)';
            COMMENT ON FUNCTION {entity}_as_of IS
                'the versions of dim_{entity} that were valid at a moment; with a {key}, the one of that key, found by '
                'one step into an index';
        """)
    # coalesce() looks for the first version only where none is valid at the window's start.
    op.execute("""
        CREATE OR REPLACE VIEW sales_by_category_window AS
        SELECT w.window_size, w.window_start, w.window_end, p.category,
               sum(w.transactions)::bigint AS transactions, sum(w.units_sold)::bigint AS units_sold,
               sum(w.units_returned)::bigint AS units_returned, sum(w.gross_sales) AS gross_sales,
               sum(w.returns_amount) AS returns_amount, sum(w.discounts) AS discounts, sum(w.taxes) AS taxes,
               sum(w.net_sales) AS net_sales
        FROM sales_by_product_window w
        CROSS JOIN LATERAL (
            SELECT coalesce(
                (SELECT CASE WHEN v.valid_to > w.window_start OR v.valid_to IS NULL THEN v.category END
                 FROM dim_products v
                 WHERE v.product_id = w.product_id AND v.valid_from <= w.window_start
                 ORDER BY v.valid_from DESC LIMIT 1),
                (SELECT v.category FROM dim_products v WHERE v.product_id = w.product_id ORDER BY v.valid_from LIMIT 1),
                'Unknown') AS category
        ) p
        GROUP BY w.window_size, w.window_start, w.window_end, p.category
    """)
