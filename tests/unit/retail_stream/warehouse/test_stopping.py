"""What waits for a server that answers nothing ends when its program is to stop."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import psycopg

from retail_stream.warehouse.stopping import CutAtStop


def test_a_wait_ends_once_the_program_is_to_stop_and_not_before() -> None:
    stop = threading.Event()
    ours, frozen = socket.socketpair()
    cut = CutAtStop(stop, grace_s=0)
    cut.add(cast("psycopg.Connection", ours))
    with ours, frozen, ThreadPoolExecutor(1) as waits:
        frozen.send(b"an answer")
        assert waits.submit(ours.recv, 100).result(10) == b"an answer"
        waiting = waits.submit(ours.recv, 100)
        stop.set()
        assert waiting.result(10) == b""
        # So does what is opened after the stop; connections that are closed are passed over.
        later, also_frozen = socket.socketpair()
        ours.close()
        with later, also_frozen:
            cut.add(cast("psycopg.Connection", later))
            assert waits.submit(later.recv, 100).result(10) == b""
