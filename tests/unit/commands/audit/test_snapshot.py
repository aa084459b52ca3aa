"""Reading the warehouse in one snapshot, when its session ends."""

import pytest

from commands.audit import snapshot
from retail_stream.errors import Unavailable

GONE = Unavailable("Postgres at h:1/d answers: terminating connection due to administrator command.")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the clock shows; the test moves it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_a_session_that_ended_after_minutes_is_repeated(clock):
    sessions = []

    def read() -> str:
        sessions.append(clock[0])
        clock[0] += 100
        if len(sessions) < 3:
            raise GONE
        return "read"

    assert snapshot.patiently(read) == "read"
    assert len(sessions) == 3


def test_a_server_that_ends_every_session_is_given_up(clock):
    def read() -> None:
        clock[0] += 100
        raise GONE

    with pytest.raises(Unavailable, match="administrator command"):
        snapshot.patiently(read)
    assert clock[0] < 400


def test_a_server_that_is_away_is_waited_for_30_s_only(clock):
    def read() -> None:
        clock[0] += 5
        raise GONE

    with pytest.raises(Unavailable):
        snapshot.patiently(read)
    assert 30 <= clock[0] < 45
