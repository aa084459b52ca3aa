"""Dead letters: what their headers say, hostile ones included, and what goes back to the raw topic."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from commands import cli
from commands.dlq import letters, show
from commands.dlq.commands import print_plan
from commands.dlq.letters import Letter, Origin, Selection
from commands.dlq.plan import AHEAD_MS, HEADERS_READABLE, Obstacle, Plan
from retail_stream import dead_letters as headers
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity
from retail_stream.errors import Rejected, Stage, Unavailable
from retail_stream.rules import built_in
from retail_stream.settings import Connections
from retail_stream.topics import TOPICS
from tests.harness.examples import RAW_ID, examples, schema

SALES = RecordSchema(schema(Entity.SALES, "raw"))
SALE: dict[str, Any] = next(e.value or {} for e in examples("valid") if str(e) == "sales-sale")
VALUE = frame(RAW_ID, encode(SALES.plain, SALE))
COUNTS = {"sales.raw": 4}
NOW = 1_700_000_000_000
GROUP = (Entity.SALES, "a_rule, b_rule")


def letter(
    *own: tuple[str, bytes | None], topic="sales.raw", partition=2, offset=17, value: bytes | None = VALUE
) -> Letter:
    rejected = Rejected(("a_rule", "b_rule"), Stage.TRANSFORMATION, "it breaks a_rule")
    added = headers.headers(topic, partition, offset, rejected, "v1")
    return Letter(Entity.SALES, 2, 5, NOW, b"7", value, [*own, *added])


def but(**changes) -> Letter:
    return replace(letter(), **changes)


def without(name: str) -> Letter:
    return but(headers=[(n, v) for n, v in letter().headers if n != name])


def changed(name: str, value: bytes | None) -> Letter:
    return but(headers=[(n, value if n == name else v) for n, v in letter().headers])


def goes_back(whole: Letter) -> list[tuple[str, bytes | None]]:
    record = Plan(COUNTS, NOW).add(whole)
    assert record is not None
    return list(record.headers)


def test_a_letter_knows_its_origin_and_reasons():
    assert (letter().origin, letter().rules) == (Origin("sales.raw", 2, 17), ("a_rule", "b_rule"))


@pytest.mark.parametrize("name", ["topic", "partition", "offset"])
def test_a_letter_without_a_whole_origin_has_none(name: str):
    assert without(f"__connect.errors.{name}").origin is None
    assert changed(f"__connect.errors.{name}", b"\xff-1").origin is None
    assert changed(f"__connect.errors.{name}", None).origin is None


def test_a_letter_from_another_entitys_topic_has_no_origin():
    assert letter(topic="stores.raw").origin is None
    assert letter(offset=2**63).origin is None


def test_a_replayed_record_is_the_original_with_the_position_of_the_first_original():
    record = Plan(COUNTS, NOW).add(letter(("trace", b"x"), ("trace", None)))
    assert record is not None
    assert (record.topic, record.partition, record.key, record.value) == ("sales.raw", 2, b"7", VALUE)
    assert record.timestamp == NOW
    assert record.headers == [("trace", b"x"), ("trace", None), ("replay.of", b"sales.raw/2/17")]


def test_a_record_that_is_replayed_again_keeps_the_first_position():
    assert goes_back(letter(("replay.of", b"sales.raw/2/3"))) == [("replay.of", b"sales.raw/2/3")]


def test_a_record_keeps_headers_of_its_own_that_are_named_like_a_dead_letters():
    own = [("rules", b"house"), ("rules.version", b"1"), ("x", b"")]
    assert goes_back(letter(*own)) == [*own, ("replay.of", b"sales.raw/2/17")]


def test_all_of_connects_headers_stay_behind():
    assert goes_back(letter(("__connect.errors.task.id", b"1"))) == [("replay.of", b"sales.raw/2/17")]


@pytest.mark.parametrize(
    ("stays", "why"),
    [
        (without("__connect.errors.topic"), Obstacle.ORIGIN),
        (letter(partition=4), Obstacle.PARTITION),
        (changed("rules", f"key_matches,{HEADERS_READABLE}".encode()), Obstacle.HEADERS),
        (letter(("payload", b"in raw topic"), value=None), Obstacle.PAYLOAD),
        (but(timestamp=NOW + AHEAD_MS + 1), Obstacle.TIMESTAMP),
        (but(timestamp=0), Obstacle.TIMESTAMP),
        (but(timestamp=-(2**62)), Obstacle.TIMESTAMP),
    ],
)
def test_a_letter_that_does_not_identify_its_record_is_blocked_and_counted(stays: Letter, why: Obstacle):
    plan = Plan(COUNTS, NOW)
    assert plan.add(stays) is None
    assert plan.add(letter()) is not None
    assert (plan.obstacles, plan.replayed, plan.blocked.total()) == ({why: 1}, {GROUP: 1}, 1)


@pytest.mark.parametrize("timestamp", [-1, -(10**12), NOW + AHEAD_MS])
def test_timestamps_that_kafka_keeps_go_back(timestamp: int):
    record = Plan(COUNTS, NOW).add(but(timestamp=timestamp))
    assert record is not None
    assert record.timestamp == timestamp


def test_the_plans_copies_of_constants_are_right():
    assert {t.config.get("message.timestamp.after.max.ms") for t in TOPICS if t.name in COUNTS} == {str(AHEAD_MS)}
    assert built_in.HEADERS_READABLE == HEADERS_READABLE


def test_a_record_that_was_replayed_and_rejected_again_goes_back_once():
    plan = Plan(COUNTS, NOW)
    again = letter(("replay.of", b"sales.raw/2/17"), offset=99)
    assert [plan.add(one) is not None for one in (letter(), again, letter())] == [True, False, False]
    assert (plan.replayed, plan.copies) == ({GROUP: 1}, {GROUP: 2})


def test_a_letter_that_only_claims_to_be_of_the_same_record_does_not_push_it_aside():
    plan = Plan(COUNTS, NOW)
    assert plan.add(letter(value=b"junk")) is not None
    assert plan.add(letter()) is not None
    assert plan.add(but(key=None)) is not None
    assert plan.add(but(timestamp=NOW - 1)) is not None


@pytest.mark.parametrize("published", [True, False])
def test_hostile_names_of_rules_do_not_reach_the_terminal(published: bool):
    plan = Plan(COUNTS, NOW)
    plan.add(changed("rules", b"[/red]\x1b[2J[bold]" + b"x" * 1_000_000))
    out = io.StringIO()
    print_plan(Console(file=out, width=200), plan, published=published)
    output = out.getvalue()
    assert "[/red]\\x1b[2J[bold]" in output
    assert len(output) < 10_000


def test_a_selection_includes_by_rule_entity_and_a_half_open_interval_of_time():
    at = letter().at
    assert Selection(Entity.SALES, "b_rule", at, None).includes(letter())
    assert not Selection(rule="rule").includes(letter())
    assert not Selection(entity=Entity.STORES).includes(letter())
    assert not Selection(until=at).includes(letter())
    assert Selection(until=at).includes(but(timestamp=-(2**62)))
    assert Selection(since=at).includes(but(timestamp=2**62))


def test_show_decodes_the_record_beside_its_reasons():
    shown = json.loads(show.as_json(letter(("replay.of", b"sales.raw/2/3")), {RAW_ID: SALES}))
    assert shown["origin"] == "sales.raw/2/17"
    assert shown["rules"] == ["a_rule", "b_rule"]
    assert (shown["message"], shown["rules_version"], shown["key"]) == ("it breaks a_rule", "v1", "7")
    assert shown["replay_of"] == "sales.raw/2/3"
    assert shown["value"]["transaction_id"] == SALE["transaction_id"]
    assert datetime.fromisoformat(shown["value"]["event_time"]).timestamp() * 1e6 == SALE["event_time"]


@pytest.mark.parametrize("value", [None, b"", b"\x00junk", b"\x1b[2J" * 100, frame(99, b""), VALUE[:-1]])
def test_show_prints_bytes_that_are_not_a_record_as_hex(value: bytes | None):
    shown = show.as_dict(letter(value=value), {RAW_ID: SALES})
    assert shown["value"] is None
    assert shown["value_hex"] == (None if value is None else value[:64].hex())
    assert "\x1b" not in show.as_text(letter(value=value), {RAW_ID: SALES})


def test_show_survives_values_that_json_cannot_hold():
    wild = frame(RAW_ID, encode(SALES.plain, {**SALE, "tax_amount": float("nan"), "event_time": 2**62}))
    shown = json.loads(show.as_json(letter(value=wild), {RAW_ID: SALES}))
    assert (shown["value"]["tax_amount"], shown["value"]["event_time"]) == ("nan", 2**62)


def test_show_survives_a_letter_without_any_header():
    bare = Letter(Entity.SALES, 0, 0, 0, b"\xff", b"\xff", [])
    assert show.as_dict(bare, {})["rules"] == ["unknown"]
    assert "unknown origin" in show.as_text(bare, {})


@pytest.mark.parametrize("timestamp", [-(2**62), 2**62])
def test_show_survives_a_timestamp_that_is_not_a_date(timestamp: int):
    shown = json.loads(show.as_json(but(timestamp=timestamp), {}))
    assert (shown["time"], shown["timestamp_ms"]) == (None, timestamp)
    assert f"timestamp {timestamp}" in show.as_text(but(timestamp=timestamp), {})


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028"])
def test_one_letter_is_one_line_of_json(end: str):
    value = frame(RAW_ID, encode(SALES.plain, {**SALE, "payment_method": f"a{end}b"}))
    line = show.as_json(letter(value=value), {RAW_ID: SALES})
    assert len(line.splitlines()) == 1
    assert json.loads(line)["value"]["payment_method"] == f"a{end}b"


def test_control_characters_do_not_reach_the_terminal():
    assert "\x1b" not in show.as_text(letter(("replay.of", b"\x1b[2J")), {})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (None, None),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T13:00:00+01:00", datetime(2026, 11, 23, 12, tzinfo=UTC)),
    ],
)
def test_times_without_a_zone_are_utc(text, time):
    assert letters.parse_time("--since", text) == time


@pytest.mark.parametrize("command", ["show", "replay"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "--since='yesterday' is not a valid time; use ISO 8601, for example 2026-"),
        (["--until", "2026-13-01"], "ISO 8601"),
        (["--since", "2026-11-23", "--until", "2026-11-22"], "not before"),
        (["--entity", "shops"], "stores"),
    ],
)
def test_a_wrong_filter_is_refused_with_what_is_allowed(command: str, arguments: list[str], words: str):
    result = CliRunner().invoke(cli.app, ["dlq", command, *arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_reading_waits_for_a_broker_that_is_away(monkeypatch):
    asked: list[int] = []

    def ends(*_: object) -> dict[tuple[str, int], int]:
        asked.append(1)
        if len(asked) == 1:
            raise Unavailable("Kafka at 127.0.0.1:1 does not answer.")
        return {}

    monkeypatch.setattr(letters, "topic_partitions", lambda *_: [])
    monkeypatch.setattr(letters, "end_offsets", ends)
    nowhere = Connections(
        kafka_bootstrap_servers="127.0.0.1:1", schema_registry_url="http://h:1", database_url="postgresql://h:1/d"
    )
    assert list(letters.read(nowhere, Selection())) == []
    assert len(asked) == 2
