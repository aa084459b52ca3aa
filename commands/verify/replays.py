"""Checks which replays of dead letters the consumers have counted."""

from commands.audit.engine import Engine
from commands.verify.compare import check, columns
from commands.verify.report import Check
from commands.verify.versions import passed
from commands.verify.watermarks import CONSUMED
from retail_stream.topics import clean

#: A longer `replay.of` is stored by its SHA-256.
_LONGEST = 512


def replay_check(engine: Engine) -> Check:
    """The line of ``replays``: a row for each `replay.of` of a good record that a consumer group has passed."""
    name = f"CASE WHEN octet_length(r.replay_of) > {_LONGEST} THEN unhex(sha256(r.replay_of)) ELSE r.replay_of END"
    wanted = " UNION ALL ".join(
        f"""
        SELECT DISTINCT '{group}' AS consumer_group, '{clean(e)}' AS topic, r.partition, {name} AS replay_of
        FROM raw_{e} r JOIN places_{e} p ON p.partition = r.partition AND p.offset = r.offset AND p.good
        JOIN ({passed(e, group)}) b ON b.partition = r.partition AND r.offset <= b.source_offset
        WHERE r.replay_of IS NOT NULL
        """
        for group, e in CONSUMED
    )
    keys = columns("consumer_group", "topic", "partition", "replay_of")
    return check(engine, "replays", wanted, "replays", keys, ())
