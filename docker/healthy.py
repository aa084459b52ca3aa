"""The health check of a service's image: whether it answers on its port. No library, as it runs every five seconds."""

import os
import socket
import sys

with socket.create_connection(("127.0.0.1", int(os.environ["METRICS_PORT"])), timeout=2) as connection:
    connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    # To the end: a server whose client leaves early complains in its log.
    answer = b"".join(iter(lambda: connection.recv(4096), b""))
sys.exit(b" 200 " not in answer.partition(b"\r\n")[0])
