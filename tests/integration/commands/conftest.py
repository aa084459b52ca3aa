"""What tests of several commands share."""

import pytest

from commands.verify import recent_load, since


@pytest.fixture
def five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records may be five seconds ahead instead of five minutes, in runs of a minute of simulated time."""
    for module in (since, recent_load):
        monkeypatch.setattr(module, "AHEAD_US", 5_000_000)
