"""Checks how far merger and aggregator have read, and by which epochs they are fenced."""

from commands.audit.engine import Engine, count
from commands.verify.compare import check, columns, differences, listed
from commands.verify.report import Check
from commands.verify.versions import passed
from commands.verify.watermarks import CONSUMED
from retail_stream.topics import Group, clean


def topic_check(engine: Engine) -> Check:
    """The line of ``topics_read``: each topic that the warehouse was filled from has the id that the brokers give it.

    Reads ``topic_ids`` (topic, topic_id). The next claim of a partition stores the ids of topics that are not there.
    """
    wanted = "SELECT i.* FROM topic_ids i SEMI JOIN topics_read USING (topic)"
    return check(engine, "topics_read", wanted, "topics_read", columns("topic"), columns("topic_id"))


def position_check(engine: Engine) -> Check:
    """The line of ``consumer_positions``: the largest ``source.offset`` before each position, and its limits.

    No position is behind the end of its partition (``ends``: topic, partition, end). The aggregator's epoch of a
    partition is that of the partition's watermark.
    """
    wanted = " UNION ALL ".join(
        f"SELECT '{g}' AS consumer_group, '{clean(e)}' AS topic, * FROM ({passed(e, g)})" for g, e in CONSUMED
    )
    keys = columns("consumer_group", "topic", "partition")
    wrong = differences(engine, f"({wanted})", "positions", keys, columns("source_offset"))
    place = "'consumer_group ' || p.consumer_group || ' topic ' || p.topic || ' partition ' || p.partition"
    wrong += listed(
        engine,
        f"""
        SELECT {place} || ': next_offset ' || next_offset || ' is not within the partition, which ends at '
               || coalesce(e."end", 0)
        FROM positions p LEFT JOIN ends e USING (topic, partition)
        WHERE next_offset < 0 OR next_offset > coalesce(e."end", 0)
        UNION ALL
        SELECT {place} || ': epoch expected ' || coalesce(w.epoch::VARCHAR, 'nothing') || ', found ' || p.epoch
        FROM positions p LEFT JOIN partition_watermarks w ON w.partition = p.partition
        WHERE p.consumer_group = '{Group.AGGREGATOR}' AND p.epoch IS DISTINCT FROM w.epoch
        UNION ALL
        SELECT {place} || ': epoch ' || epoch || ' is not a positive number' FROM positions p WHERE epoch < 1
        """,
    )
    there = count(engine, f"({wanted})")
    return Check("consumer_positions", there, count(engine, "positions"), wrong.count, wrong.examples)
