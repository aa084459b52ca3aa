"""Dead letters: what their headers say, hostile ones included, and what goes back to the raw topic."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from retail_stream import cli
from retail_stream.dlq import headers, letters, replay, show
from retail_stream.dlq.letters import Letter, Origin, Selection
from retail_stream.entities import Entity
from retail_stream.wire import Writer, encode, frame

from .examples import RAW_ID, examples, schema

SALES = Writer(schema(Entity.SALES, "raw"))
SALE = next(e.value for e in examples("valid") if str(e) == "sales-sale")
VALUE = frame(RAW_ID, encode(SALES.plain, SALE))
COUNTS = {"sales.raw": 4}


def letter(
    *own: tuple[str, bytes | None], topic="sales.raw", partition=2, offset=17, value: bytes | None = VALUE
) -> Letter:
    added = headers.headers(topic, partition, offset, "TRANSFORMATION", ["a_rule", "b_rule"], "v1", "it breaks a_rule")
    return Letter(Entity.SALES, 2, 5, 1_700_000_000_000, b"7", value, [*own, *added])


def without(name: str) -> Letter:
    whole = letter()
    return Letter(**{**vars(whole), "headers": [(n, v) for n, v in whole.headers if n != name]})


def changed(name: str, value: bytes | None) -> Letter:
    whole = letter()
    return Letter(**{**vars(whole), "headers": [(n, value if n == name else v) for n, v in whole.headers]})


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


def test_what_goes_back_has_its_own_headers_and_the_place_of_the_first_original():
    assert replay.headers(letter(("trace", b"x"), ("trace", None))) == [
        ("trace", b"x"),
        ("trace", None),
        ("replay.of", b"sales.raw/2/17"),
    ]


def test_what_goes_back_a_second_time_keeps_the_first_place():
    assert replay.headers(letter(("replay.of", b"sales.raw/2/3"))) == [("replay.of", b"sales.raw/2/3")]


def test_letters_without_origin_or_partition_stay_and_are_counted():
    told = replay.plan([letter(), letter(partition=4), without("__connect.errors.topic")], COUNTS)
    assert told.going == {(Entity.SALES, "a_rule, b_rule"): 1}
    assert told.stuck == {(Entity.SALES, "a_rule, b_rule"): 2}


def test_a_selection_takes_rule_entity_and_a_half_open_span_of_time():
    at = letter().at
    assert Selection(Entity.SALES, "b_rule", at, None).takes(letter())
    assert not Selection(rule="rule").takes(letter())
    assert not Selection(entity=Entity.STORES).takes(letter())
    assert not Selection(until=at).takes(letter())


def test_show_decodes_the_record_beside_its_reasons():
    told = json.loads(show.as_json(letter(("replay.of", b"sales.raw/2/3")), {RAW_ID: SALES}))
    assert told["origin"] == "sales.raw/2/17"
    assert told["rules"] == ["a_rule", "b_rule"]
    assert (told["message"], told["rules_version"], told["key"]) == ("it breaks a_rule", "v1", "7")
    assert told["replay_of"] == "sales.raw/2/3"
    assert told["value"]["transaction_id"] == SALE["transaction_id"]
    assert datetime.fromisoformat(told["value"]["event_time"]).timestamp() * 1e6 == SALE["event_time"]


@pytest.mark.parametrize("value", [None, b"", b"\x00junk", b"\x1b[2J" * 100, frame(99, b""), VALUE[:-1]])
def test_show_tells_bytes_that_are_no_record_as_hex(value: bytes | None):
    told = show.described(letter(value=value), {RAW_ID: SALES})
    assert told["value"] is None
    assert told["value_hex"] == (None if value is None else value[:64].hex())
    assert "\x1b" not in show.as_text(letter(value=value), {RAW_ID: SALES})


def test_show_survives_values_that_json_has_no_words_for():
    wild = frame(RAW_ID, encode(SALES.plain, {**SALE, "tax_amount": float("nan"), "event_time": 2**62}))
    told = json.loads(show.as_json(letter(value=wild), {RAW_ID: SALES}))
    assert (told["value"]["tax_amount"], told["value"]["event_time"]) == ("nan", 2**62)


def test_show_survives_a_letter_without_any_header():
    bare = Letter(Entity.SALES, 0, 0, 0, b"\xff", b"\xff", [])
    assert show.described(bare, {})["rules"] == ["unknown"]
    assert "from nowhere known" in show.as_text(bare, {})


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
    assert letters.moment("--since", text) == time


@pytest.mark.parametrize("command", ["show", "replay"])
@pytest.mark.parametrize(
    ("arguments", "words"), [(["--since", "yesterday"], "ISO 8601"), (["--entity", "shops"], "stores")]
)
def test_a_wrong_filter_is_refused_with_what_is_allowed(command: str, arguments: list[str], words: str):
    result = CliRunner().invoke(cli.app, ["dlq", command, *arguments])
    assert result.exit_code == 2
    assert words in result.output
