"""Consumer positions and the settings that the stored state depends on."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables that every consumer needs."""
    op.execute("""
        CREATE TABLE consumer_positions (
            consumer_group text NOT NULL,
            topic text NOT NULL,
            partition integer NOT NULL,
            epoch bigint NOT NULL,
            next_offset bigint NOT NULL,
            source_offset bigint NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (consumer_group, topic, partition)
        );
        COMMENT ON TABLE consumer_positions IS
            'next offset of each consumer, written with its results; epoch fences a worker that lost the partition';
        CREATE TABLE stored_settings (
            name text PRIMARY KEY,
            value text NOT NULL
        );
        COMMENT ON TABLE stored_settings IS
            'settings that shape results; other values than these stop a service unless the warehouse is empty';
    """)
