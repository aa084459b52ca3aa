"""The replays of dead letters that a consumer has seen; a second replay of one record does not count."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create a row for each consumer group, partition and `replay.of`."""
    op.execute("""
        CREATE TABLE replays (
            consumer_group text NOT NULL,
            topic text NOT NULL,
            partition integer NOT NULL,
            replay_of bytea NOT NULL,
            PRIMARY KEY (consumer_group, topic, partition, replay_of)
        );
        COMMENT ON COLUMN replays.replay_of IS
            'the header: topic/partition/offset of the first original; a header of more than 512 bytes by its SHA-256';
    """)
