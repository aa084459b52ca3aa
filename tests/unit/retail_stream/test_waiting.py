"""How long a wait lasts: until the server answers, the patience is over, or the program is to stop."""

import threading
import time

import pytest
import structlog
from structlog.testing import capture_logs
from tenacity import wait_fixed

from retail_stream import waiting
from retail_stream.errors import Unavailable
from retail_stream.waiting import Outage, Stopped, wait_for


@pytest.fixture(autouse=True)
def _new_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    # A logger keeps the configuration of its first use, which may be another test's.
    monkeypatch.setattr(waiting, "_log", structlog.get_logger("waiting"))


def away() -> None:
    raise Unavailable("Kafka at 127.0.0.1:9 does not answer.")


def test_a_server_that_comes_back_is_one_warning_and_one_line() -> None:
    answers = iter([False, False, True])

    def ask() -> int:
        if not next(answers):
            away()
        return 7

    with capture_logs() as logged:
        assert wait_for(ask) == 7
    assert [(line["event"], line.get("why")) for line in logged] == [
        ("waiting", "Kafka at 127.0.0.1:9 does not answer."),
        ("answered", None),
    ]


def test_a_server_that_answers_at_once_is_not_mentioned() -> None:
    with capture_logs() as logged:
        assert wait_for(lambda: 7, stop=threading.Event()) == 7
    assert logged == []


def test_an_outage_is_one_sentence_each_30_s_and_one_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    outage = Outage(settling_s=10)
    with capture_logs() as logged:
        outage.ends()
        for clock[0] in (1000, 1029, 1030, 1059, 1061):
            outage.says("Kafka does not answer.")
        outage.ends()
        for clock[0] in (1062, 1070, 1071):
            outage.says("Kafka does not answer.")
    assert [(line["event"], line.get("why"), line.get("waited_s")) for line in logged] == [
        ("waiting", "Kafka does not answer.", 0),
        ("waiting", "Kafka does not answer.", 30),
        ("waiting", "Kafka does not answer.", 61),
        ("answered", None, None),
        ("waiting", "Kafka does not answer.", 0),
    ]


def test_a_command_gives_up_with_the_sentence() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        wait_for(away, patience_s=0.1)


def test_a_stop_ends_the_pause_between_two_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "wait_exponential", lambda **_: wait_fixed(10))
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        wait_for(away, stop=stop)
    assert time.monotonic() - began < 5


def test_after_a_stop_nothing_is_attempted() -> None:
    stop = threading.Event()
    stop.set()
    attempts: list[int] = []
    with pytest.raises(Stopped):
        wait_for(lambda: attempts.append(1), stop=stop)
    assert attempts == []
