"""Dead letters with hostile content: the commands show them, replay those that can be, and never break.

It needs topics of its own, because it leaves records on them that no cleaner wrote.
"""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Message
from typer.testing import CliRunner, Result

from commands import cli
from commands.dlq import letters
from commands.dlq.plan import Obstacle, ReplayRecord
from commands.dlq.replay import publish
from retail_stream import dead_letters as dead_letter
from retail_stream import waiting
from retail_stream.errors import Rejected, RetailStreamError, Stage, Unavailable
from retail_stream.kafka import clients, offsets
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from tests.harness.servers import Servers, connections_of
from tests.integration.commands.verify.reports import run as verify

LONG_AGO = 1_600_000_000_000
HALF_AN_HOUR = 1_800_000
NOWHERE = "127.0.0.1:9"
Headers = list[tuple[str, bytes | None]]


def added(offset: object = 17, topic="sales.raw", partition: object = 1, rules="was_strict") -> Headers:
    why = dead_letter.headers(topic, 0, 0, Rejected((rules,), Stage.TRANSFORMATION, "not liked then"), "older")
    place = {"__connect.errors.partition": str(partition), "__connect.errors.offset": str(offset)}
    return [(name, place[name].encode() if name in place else value) for name, value in why]


#: Value → headers, timestamp, and why the letter stays.
LETTERS: dict[bytes, tuple[Headers, int, Obstacle | None]] = {
    b"genuine": ([("trace", b"x"), ("trace", None), *added()], LONG_AGO, None),
    b"before 1970": (added(18), -1, None),
    b"before any date": (added(19), -(2**62), Obstacle.TIMESTAMP),
    b"of the future": (added(20), int(time.time() * 1000) + HALF_AN_HOUR, Obstacle.TIMESTAMP),
    b"without headers": ([], LONG_AGO, Obstacle.ORIGIN),
    b"with null headers": ([(name, None) for name, _ in added()], LONG_AGO, Obstacle.ORIGIN),
    b"of offset -1": (added(-1), LONG_AGO, Obstacle.ORIGIN),
    b"of offset 2**64": (added(2**64), LONG_AGO, Obstacle.ORIGIN),
    b"of a digit that is none": (added("²"), LONG_AGO, Obstacle.ORIGIN),
    b"of partition 99": (added(partition=99), LONG_AGO, Obstacle.PARTITION),
    b"of another topic": (added(topic="sales.clean"), LONG_AGO, Obstacle.ORIGIN),
    b"that steers": (added(21, rules="[/red]\x1b[2J,\r\n" + "x" * 10_000), LONG_AGO, None),
    b"that is no text": ([*added(22), ("replay.of", b"\xff\x00\x1b[2J")], LONG_AGO, None),
    b"of lost headers": (added(23, rules="headers_readable"), LONG_AGO, Obstacle.HEADERS),
}
GOING = [value for value, (_, _, stays) in LETTERS.items() if stays is None]


@pytest.fixture(scope="module")
def planted(empty_stack: Servers) -> Connections:
    """Servers with all LETTERS in partition 3 of `sales.dlq`."""
    connections = connections_of(empty_stack)
    producer = clients.producer(connections)
    for value, (headers, timestamp, _) in LETTERS.items():
        producer.produce("sales.dlq", value, b"7", partition=3, timestamp=timestamp, headers=headers)
    assert producer.flush(30) == 0
    return connections


@pytest.fixture
def dlq(planted: Connections, monkeypatch: pytest.MonkeyPatch):
    for name in ("kafka_bootstrap_servers", "schema_registry_url", "database_url"):
        monkeypatch.setenv(name.upper(), getattr(planted, name))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["dlq", *arguments])

    return run


def raw(connections: Connections) -> list[Message]:
    return list(read_to_end(connections, "sales.raw"))


def test_every_letter_is_listed_and_shown(dlq):
    listed = dlq("list")
    assert listed.exit_code == 0, listed.output
    assert "was_strict" in listed.output
    shown = dlq("show", "--json", "--limit", "1000")
    assert shown.exit_code == 0, shown.output
    letters = {bytes.fromhex(s["value_hex"]): s for s in map(json.loads, shown.stdout.splitlines())}
    assert letters.keys() == LETTERS.keys()
    assert {value for value, s in letters.items() if s["origin"] is None} == {
        value for value, (_, _, stays) in LETTERS.items() if stays is Obstacle.ORIGIN
    }
    assert letters[b"before any date"]["time"] is None


def test_no_letter_steers_the_terminal(dlq):
    for command in (["list"], ["show", "--limit", "1000"], ["replay"]):
        result = dlq(*command)
        assert result.exit_code == 0, result.output
        assert [c for c in result.output if not c.isprintable() and c != "\n"] == []
    assert "\\x1b[2J" in result.output


def test_times_also_select_letters_whose_timestamps_are_not_dates(dlq):
    old = dlq("show", "--json", "--until", "2000-01-01")
    assert [json.loads(line)["timestamp_ms"] for line in old.stdout.splitlines()] == [-1, -(2**62)]
    assert "No dead letter matches." in dlq("show", "--until", "1960-01-01", "--since", "1900-01-01").output
    assert (
        dlq("show", "--json", "--since", "2020-09-13T12:26:40", "--limit", "1000").stdout.count("\n")
        == len(LETTERS) - 2
    )
    assert dlq("show", "--json", "--since", "2020-09-13T14:26:40.001+02:00").stdout.count("\n") == 1


def test_each_replay_publishes_the_original_of_each_replayable_letter_once(dlq, planted):
    before = raw(planted)
    dry = dlq("replay")
    assert (dry.exit_code, len(raw(planted))) == (0, len(before))
    assert f"To publish these {len(GOING)} records" in dry.output
    for why in Obstacle:
        number = sum(stays is why for _, _, stays in LETTERS.values())
        assert number == 0 or f"Cannot be replayed: {number}, because {why}" in dry.output
    for _ in range(2):
        done = dlq("replay", "--execute")
        assert done.exit_code == 0, done.output
        assert f"Published {len(GOING)} records" in done.output
    new = raw(planted)[len(before) :]
    assert [m.value() for m in new] == GOING * 2
    assert {(m.partition(), m.key()) for m in new} == {(1, b"7")}
    assert [m.timestamp()[1] for m in new] == [LETTERS[value][1] for value in GOING] * 2
    first, _, _, named = (m.headers() for m in new[: len(GOING)])
    assert first == [("trace", b"x"), ("trace", None), ("replay.of", b"sales.raw/1/17")]
    assert named == [("replay.of", b"\xff\x00\x1b[2J")]


def test_a_record_that_is_too_large_is_an_error_and_the_others_arrive(planted):
    large = random.Random(1).randbytes(1_200_000)
    records = [ReplayRecord("sales.raw", 0, b"7", value, LONG_AGO, []) for value in (b"before", large, b"after")]
    with pytest.raises(RetailStreamError, match=r"1 of 3 records cannot be published.* sales.raw/0: .*too large"):
        publish(planted, records)
    assert [m.value() for m in raw(planted) if m.partition() == 0] == [b"before", b"after"]


def test_brokers_that_do_not_answer_are_waited_for_up_to_the_patience(planted):
    gone = planted.model_copy(update={"kafka_bootstrap_servers": NOWHERE})
    with pytest.raises(Unavailable, match=f"Kafka at {NOWHERE}"):
        publish(gone, [ReplayRecord("sales.raw", 0, b"7", b"", LONG_AGO, [])], patience_s=1)


def test_a_registry_that_does_not_answer_is_one_sentence(dlq, monkeypatch):
    monkeypatch.setattr(waiting, "COMMAND_PATIENCE_S", 1)
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", f"http://{NOWHERE}")
    result = dlq("show")
    assert result.exit_code == 2
    assert f"retail-stream: The schema registry at http://{NOWHERE} does not answer.\n" in result.output


@pytest.mark.parametrize("command", [["list"], ["show"], ["replay"], ["replay", "--execute"]])
def test_a_broker_that_does_not_answer_is_one_sentence(dlq, monkeypatch, command):
    for module in (waiting, letters):
        monkeypatch.setattr(module, "COMMAND_PATIENCE_S", 1)
    monkeypatch.setattr(offsets, "ANSWER_S", 1)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", NOWHERE)
    result = dlq(*command)
    assert result.exit_code == 2
    assert f"retail-stream: Kafka at {NOWHERE} does not answer.\n" in result.output


def test_verify_reports_letters_without_a_record_and_does_not_break(planted):
    code, report = verify(planted)
    assert code == 1
    assert "✗ sales.dlq" in report


def test_letters_behind_an_open_transaction_are_read_once_it_ends(dlq, planted):
    """Kafka reports the end of the partition before the transaction: there is more up to the end that dlq asked for."""
    transaction = clients.producer(planted, **{"transactional.id": "open"})
    transaction.init_transactions(30)
    transaction.begin_transaction()
    transaction.produce("stores.dlq", b"inside", b"7", partition=0, headers=added(24, "stores.raw"))
    assert transaction.flush(30) == 0
    plain = clients.producer(planted)
    plain.produce("stores.dlq", b"behind", b"7", partition=0, headers=added(25, "stores.raw"))
    assert plain.flush(30) == 0
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(dlq, "show", "--json", "--entity", "stores")
        with pytest.raises(TimeoutError):
            shown.result(2)
        transaction.commit_transaction(30)
        result = shown.result(30)
    letters = list(map(json.loads, result.stdout.splitlines()))
    assert sorted(bytes.fromhex(letter["value_hex"]) for letter in letters) == [b"behind", b"inside"]
