"""What was forgotten, and since when windows are kept."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create two tables; `retail-stream forget` and `retail-stream retention` fill them."""
    op.execute("""
        CREATE TABLE pipeline.forgotten (
            entity text,
            id integer,
            before timestamptz NOT NULL,
            PRIMARY KEY (entity, id)
        );
        COMMENT ON TABLE pipeline.forgotten IS
            'ids of dimensions whose changes were deleted by retail-stream forget; the merger drops changes of them '
            'that come again';
        COMMENT ON COLUMN pipeline.forgotten.entity IS 'the dimension';
        COMMENT ON COLUMN pipeline.forgotten.id IS 'its natural key';
        COMMENT ON COLUMN pipeline.forgotten.before IS
            'changes of an earlier time are dropped; at this time, it is deleted';

        CREATE TABLE pipeline.kept_since (
            what text PRIMARY KEY,
            since timestamptz NOT NULL
        );
        COMMENT ON TABLE pipeline.kept_since IS 'what retail-stream retention has deleted by age';
        COMMENT ON COLUMN pipeline.kept_since.what IS 'windows: rows of sales_by_window and sales_by_product_window';
        COMMENT ON COLUMN pipeline.kept_since.since IS 'rows with an earlier window_start were deleted';
    """)
