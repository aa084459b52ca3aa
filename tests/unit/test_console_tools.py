"""docs/console-tools.md has a line for every topic, and what it names exists."""

import re
from pathlib import Path

from retail_stream.topics import TOPICS, Group

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "console-tools.md").read_text()


def test_there_is_a_line_for_every_topic_and_every_group():
    consumers = [line for line in TEXT.splitlines() if "kafka-console-consumer.sh" in line]
    assert sorted(line.rpartition("--topic ")[2] for line in consumers) == sorted(t.name for t in TOPICS)
    assert set(re.findall(r"--describe --group (\w+)", TEXT)) == set(Group)
