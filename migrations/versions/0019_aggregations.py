"""What is declared in `schemas/windows.toml`: the tables and views that were made of it, and that it shapes results."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Create the list of what was made, and store the entries that a warehouse was computed with until now."""
    op.execute("""
        CREATE TABLE pipeline.aggregations (
            relation text PRIMARY KEY,
            declaration text NOT NULL
        );
        COMMENT ON TABLE pipeline.aggregations IS
            'the tables and views of windows that retail-stream init has made of schemas/windows.toml';
        COMMENT ON COLUMN pipeline.aggregations.relation IS 'the table or view, in public';
        COMMENT ON COLUMN pipeline.aggregations.declaration IS 'the entry that it was made of, in one line';
        INSERT INTO pipeline.aggregations VALUES
            ('sales_by_window', 'store by store_id'), ('sales_by_product_window', 'product by product_id');
        INSERT INTO pipeline.stored_settings
        SELECT 'schemas/windows.toml', 'product by product_id; store by store_id'
        WHERE EXISTS (SELECT FROM pipeline.stored_settings);
        COMMENT ON COLUMN pipeline.stored_settings.name IS 'the environment variable, or the file';
        COMMENT ON COLUMN pipeline.kept_since.what IS
            'windows: the tables of windows and window_revisions; revisions: window_revisions';
        COMMENT ON COLUMN window_revisions.kind IS
            'what the sums are of: store, product, or a name of schemas/windows.toml';
        COMMENT ON COLUMN window_revisions.id IS 'the store, the product or another key, as text';
        ALTER TABLE window_revisions
            ALTER transactions DROP NOT NULL, ALTER units_sold DROP NOT NULL, ALTER units_returned DROP NOT NULL,
            ALTER gross_sales DROP NOT NULL, ALTER returns_amount DROP NOT NULL, ALTER discounts DROP NOT NULL,
            ALTER taxes DROP NOT NULL, ALTER net_sales DROP NOT NULL;
    """)
