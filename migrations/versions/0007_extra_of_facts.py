"""`fact_sales` keeps the fields that have no column; both kinds of `extra` have the spelling of docs/schemas.md."""

from alembic import op

revision = "0007"
down_revision = "0006"

_EXTRA = "fields of a newer schema that have no column, as an object in the spelling of docs/schemas.md; NULL for none"


def upgrade() -> None:
    """Add ``fact_sales.extra``, also to the view; a dimension with JSON in the spelling before is filled again."""
    op.execute(f"""
        ALTER TABLE fact_sales ADD COLUMN extra jsonb;
        COMMENT ON COLUMN fact_sales.extra IS '{_EXTRA}';
        CREATE OR REPLACE VIEW sales_enriched AS
        SELECT f.transaction_id, f.store_id, f.event_time, f.customer_id, f.product_id, f.quantity, f.unit_price,
               f.total_amount, f.payment_method, f.discount_applied, f.tax_amount,
               c.customer_sk, c.name AS customer_name, c.email AS customer_email, c.loyalty_points,
               p.product_sk, p.name AS product_name, p.category, p.brand,
               s.store_sk, s.name AS store_name, s.manager,
               f.extra
        FROM fact_sales f
        {_as_of("customer", "c")}
        {_as_of("product", "p")}
        {_as_of("store", "s")};
    """)
    for entity in ("customers", "products", "stores"):
        op.execute(f"""
            COMMENT ON COLUMN {entity}_changes.extra IS
                '{_EXTRA}; the merger moves a field into its column once a migration has made one';
            DO $$ BEGIN
                IF EXISTS (SELECT FROM {entity}_changes WHERE extra IS NOT NULL) THEN
                    TRUNCATE dim_{entity}, {entity}_changes;
                    DELETE FROM consumer_positions WHERE consumer_group = 'scd_merger' AND topic = '{entity}.clean';
                    DELETE FROM replays WHERE consumer_group = 'scd_merger' AND topic = '{entity}.clean';
                END IF;
            END $$;
        """)


def _as_of(name: str, alias: str) -> str:
    """SQL that joins the version that is valid at ``event_time``, as in migration 0003."""
    versions = f"SELECT v.* FROM dim_{name}s v WHERE v.{name}_id = f.{name}_id"
    return f"""
        LEFT JOIN LATERAL (
            ({versions} AND v.valid_from <= f.event_time ORDER BY v.valid_from DESC LIMIT 1)
            UNION ALL
            ({versions} ORDER BY v.valid_from LIMIT 1)
            ORDER BY valid_from DESC LIMIT 1
        ) {alias} ON {alias}.valid_from > f.event_time OR {alias}.valid_to IS NULL OR {alias}.valid_to > f.event_time
    """
