"""Progress: nothing for what is quick; a bar in a terminal; plain lines elsewhere, which a log can hold."""

import io
import re

from rich.console import Console

from commands.progress import Shown
from tests.harness.eventually import eventually

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_what_is_quick_shows_nothing():
    for terminal in (True, False):
        out = io.StringIO()
        with Shown("verify", Console(file=out, force_terminal=terminal), quiet_s=3600) as progress:
            progress.say("reading")
            progress.count(1, 2)
        assert out.getvalue() == ""


def test_without_a_terminal_there_are_plain_lines_and_none_twice():
    out = io.StringIO()
    with Shown("verify", Console(file=out, force_terminal=False), quiet_s=0, line_every_s=0.01) as progress:
        progress.say("reading [bold]the topics[/bold]")
        eventually(lambda: "reading" in out.getvalue(), "it is shown", 20, every_s=0.005)
        progress.count(1200, 4000)
        eventually(lambda: "1,200" in out.getvalue(), "it is shown", 20, every_s=0.005)
        progress.say("comparing")
        eventually(lambda: "comparing" in out.getvalue(), "it is shown", 20, every_s=0.005)
    lines = out.getvalue().splitlines()
    # It may have begun before it was told anything.
    assert [line for line in lines if line != "verify"] == [
        "verify: reading [bold]the topics[/bold]",
        "verify: reading [bold]the topics[/bold], 1,200 of 4,000",
        "verify: comparing",
    ]
    assert not CONTROL.search(out.getvalue())


def test_in_a_terminal_there_is_a_bar_that_is_gone_at_the_end():
    out = io.StringIO()
    with Shown("drain", Console(file=out, force_terminal=True, width=100), quiet_s=0) as progress:
        progress.count(30, 120)
        eventually(lambda: "25%" in out.getvalue(), "it is shown", 20, every_s=0.005)
        # More than was expected is not more than everything.
        progress.count(180, 120)
        eventually(lambda: "180 of 180" in out.getvalue(), "it is shown", 20, every_s=0.005)
    # Erase the line, show the cursor.
    assert "\x1b[2K" in out.getvalue()[-60:]
    assert "\x1b[?25h" in out.getvalue()[-60:]


def test_an_error_ends_it_too():
    out = io.StringIO()
    shown = Shown("verify", Console(file=out, force_terminal=False), quiet_s=0, line_every_s=3600)
    try:
        with shown:
            eventually(lambda: out.getvalue() == "verify\n", "it is shown", 20, every_s=0.005)
            raise ValueError
    except ValueError:
        pass
    progress_threads = [shown._showing.is_alive()]
    assert progress_threads == [False]
