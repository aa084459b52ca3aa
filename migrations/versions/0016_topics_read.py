"""The warehouse knows which topics it was filled from, by the ids that brokers give them."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the table; the next claim of a partition stores the ids of its topics."""
    op.execute("""
        CREATE TABLE pipeline.topics_read (
            topic text PRIMARY KEY,
            topic_id text NOT NULL
        );
        COMMENT ON TABLE pipeline.topics_read IS
            'the topics that this warehouse was filled from. One that is deleted and made again has another id: its '
            'offsets start again, and the services wait for retail-stream rebuild';
        COMMENT ON COLUMN pipeline.topics_read.topic IS 'name of the topic';
        COMMENT ON COLUMN pipeline.topics_read.topic_id IS 'the id that brokers gave it when it was made';
    """)
