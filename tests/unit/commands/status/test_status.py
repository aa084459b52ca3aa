"""`retail-stream status`: what it computes, what programs get, and how it is drawn again."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from commands.status.live import show
from commands.status.status import Status, as_json, as_line, as_table
from commands.status.steady import Steady
from retail_stream.errors import Unavailable
from retail_stream.topics import Group

AT = datetime(2026, 3, 1, 8, 0, 10, tzinfo=UTC)
BEFORE = Status(
    produced=1000,
    cleaned=900,
    rejected=10,
    late=1,
    versions=50,
    facts=700,
    windows={"open": 3, "final": 2},
    outbox=4,
    watermark=None,
    lag={Group.CLEANER: 90, Group.SCD_MERGER: 0, Group.AGGREGATOR: 12},
    at=AT,
)
NOW = replace(
    BEFORE,
    produced=1500,
    facts=1000,
    outbox=0,
    watermark=AT - timedelta(seconds=9.5),
    lag=dict.fromkeys(Group, 0),
    at=AT + timedelta(seconds=2),
)


def test_programs_get_every_field_that_the_docs_name():
    assert json.loads(json.dumps(as_json(NOW, BEFORE))) == {
        "at": "2026-03-01T08:00:12+00:00",
        "counts": {"produced": 1500, "cleaned": 900, "rejected": 10, "late": 1, "versions": 50, "facts": 1000},
        "per_second": {"produced": 250, "cleaned": 0, "rejected": 0, "late": 0, "versions": 0, "facts": 150},
        "windows": {"open": 3, "fired": 0, "final": 2},
        "further_windows": {},
        "estimated": [],
        "lag": {"cleaner": 0, "scd_merger": 0, "aggregator": 0},
        "outbox": 0,
        "watermark": "2026-03-01T08:00:00.500000+00:00",
        "watermark_lag_s": 11.5,
        "drained": True,
    }


def test_before_the_first_watermark_there_is_none():
    values = as_json(BEFORE, BEFORE)
    assert (values["watermark"], values["watermark_lag_s"], values["drained"]) == (None, None, False)
    assert set(values["per_second"].values()) == {0}
    out = io.StringIO()
    Console(file=out, width=80).print(as_table(BEFORE))
    assert "none yet" in out.getvalue()


def test_estimates_are_marked():
    large = replace(NOW, estimated=frozenset({"facts", "windows"}))
    out = io.StringIO()
    Console(file=out, width=80).print(as_table(large, replace(BEFORE, estimated=large.estimated)))
    rows = {tuple(line.replace("│", " ").split()) for line in out.getvalue().splitlines()}
    assert {("facts", "~1,000", "~150"), ("versions", "50", "0.0"), ("windows", "final", "~2")} <= rows
    assert ("windows", "open", "3") in rows
    assert as_json(large, BEFORE)["estimated"] == ["facts", "windows"]


def test_a_line_for_a_log():
    line = as_line(NOW, BEFORE)
    assert line.startswith("published 250/s, clean 0/s")
    assert line.endswith("windows 5 (2 fired), lag 0")


class Looks:
    """Answers of `look`, then Ctrl-C."""

    def __init__(self, *answers: Status | Unavailable) -> None:
        self.left = list(answers)
        self.slept: list[float] = []

    def look(self) -> Status:
        answer = self.left.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.left:
            raise KeyboardInterrupt


def drawn(looks: Looks, patience_s: float = 30) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    steady = Steady()
    steady.next(BEFORE)
    show(looks.look, BEFORE, console, 1.0, steady, looks.sleep, patience_s)
    return out.getvalue()


def test_it_is_drawn_again_in_place_until_ctrl_c():
    text = drawn(looks := Looks(NOW, replace(NOW, produced=1777, at=NOW.at + timedelta(seconds=1))))
    assert "250" in text
    # 777 in three seconds: rates are taken over ten seconds, or as long as there is.
    assert "259" in text
    # Up, over what was drawn before.
    assert "\x1b[1A" in text
    assert looks.slept == [1.0, 1.0]


def test_a_server_that_is_away_is_named_under_the_last_numbers_and_forgotten_when_it_is_back():
    text = drawn(Looks(NOW, Unavailable("Kafka at x does not answer."), replace(NOW, at=NOW.at + timedelta(seconds=9))))
    frames = text.split("\x1b[2K")
    assert text.count("Kafka at x does not answer. Waiting for it.") == 1
    assert "Kafka" not in frames[-1]
    assert "1,500" in text[: text.index("Kafka")]


def test_after_its_patience_it_gives_up():
    with pytest.raises(Unavailable, match="Kafka at x"):
        drawn(Looks(NOW, Unavailable("Kafka at x does not answer.")), patience_s=0)
