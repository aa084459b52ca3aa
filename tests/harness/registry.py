"""A server that answers as a schema registry does, or does not."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: (method, path without query) → (status, content type, body)
Answer = tuple[int, str, bytes]
Answers = Callable[[str, str], Answer]
JSON = "application/json"


@contextmanager
def answering(answers: Answers) -> Iterator[str]:
    """A server; its URL has a name and a password."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = answers(self.command, self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if 300 <= status < 400:
                self.send_header("Location", "https://user:secret@login.example/in?token=secret")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://retail:p%40ss@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def as_json(value: Any, status: int = 200) -> Answer:
    return status, JSON, json.dumps(value).encode()


def error(code: int, status: int = 404) -> Answer:
    return as_json({"error_code": code, "message": "no"}, status)
