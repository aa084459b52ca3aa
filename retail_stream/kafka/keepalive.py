"""aiokafka connections that notice within 10 s that their broker's machine is gone.

A machine that vanishes closes no connection: without this, a request waits for its whole timeout.
"""

import functools
import socket
from typing import Any

from aiokafka import client
from aiokafka.conn import AIOKafkaConnection

#: Silence until the first probe, between probes, and how many go unanswered: 4 + 2 × 3 = 10 s.
_IDLE_S, _INTERVAL_S, _PROBES = 4, 2, 3
#: For bytes that were sent and are not acknowledged.
_UNACKNOWLEDGED_MS = 10_000
_OPTIONS = (
    ("TCP_KEEPIDLE", _IDLE_S),
    ("TCP_KEEPINTVL", _INTERVAL_S),
    ("TCP_KEEPCNT", _PROBES),
    ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
)


def install() -> None:
    """Let every aiokafka client of this process keep watch over its connections; may be called again."""
    if not hasattr(client.create_conn, "__wrapped__"):
        client.create_conn = _watched(client.create_conn)


def _watched(create_conn: Any) -> Any:
    @functools.wraps(create_conn)
    async def create(*args: Any, **kwargs: Any) -> AIOKafkaConnection:
        connection: AIOKafkaConnection = await create_conn(*args, **kwargs)
        if connection._writer is not None:
            watch(connection._writer.get_extra_info("socket"))
        return connection

    return create


def watch(connection: socket.socket) -> None:
    """Set keepalive on a TCP socket, with those of the options that this operating system has."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
