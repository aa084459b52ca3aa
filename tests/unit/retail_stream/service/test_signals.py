"""The first signal sets an event and the second ends the program, whatever the main thread is doing."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

#: The main thread waits on the event, a moment at a time, as loops do that have something else to look at.
PROGRAM = """
import threading
from retail_stream.service import signals
{before}
stop = threading.Event()
signals.listen(stop.set)
others = [threading.Thread(target=stop.wait) for _ in range(4)]
for other in others: other.start()
print("ready", flush=True)
while not stop.wait({moment}): pass
for other in others: other.join()
{then}
print("stopped", flush=True)
"""


def child(moment: str = "1e-5", then: str = "", before: str = "") -> subprocess.Popen[bytes]:
    program = PROGRAM.format(moment=moment, then=then, before=before)
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    return started


@pytest.mark.parametrize("attempt", range(8))
def test_a_shower_of_signals_stops_a_program_that_waits(attempt: int) -> None:
    program = child(before="signals._end = lambda number: None")
    deadline, sent = time.monotonic() + 10, 0
    # Up to its last words: an interpreter that ends gives the signals their default meaning back.
    while not select.select([program.stdout], [], [], 0)[0] and time.monotonic() < deadline:
        os.kill(program.pid, signal.SIGTERM if sent % 2 else signal.SIGINT)
        sent += 1
    if hangs := time.monotonic() >= deadline:
        program.kill()
    assert not hangs, f"it hangs after {sent} signals"
    assert program.communicate(timeout=20)[0] == b"stopped\n"


def test_a_program_that_waits_without_end_is_woken_by_one() -> None:
    program = child(moment="")
    program.send_signal(signal.SIGTERM)
    assert program.communicate(timeout=20) == (b"stopped\n", b"")
    assert program.returncode == 0


#: The second is a call of the Kafka client, which no handler of Python's interrupts.
@pytest.mark.parametrize(
    "busy",
    [
        "import time; time.sleep(60)",
        "from confluent_kafka.admin import AdminClient as A\n"
        "A({'bootstrap.servers': '127.0.0.1:9', 'log_level': 0}).list_topics(timeout=60)",
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_program_at_once(number: signal.Signals, busy: str) -> None:
    program = child(then=f'print("finishing", flush=True)\n{busy}')
    program.send_signal(number)
    assert program.stdout is not None
    assert program.stdout.readline() == b"finishing\n"
    program.send_signal(number)
    assert program.communicate(timeout=20)[0] == b""
    assert program.returncode == 128 + number
