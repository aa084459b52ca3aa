"""Whether a server answers, for ``/readyz``: it is asked on demand, and no answer takes long."""

import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from sqlalchemy import Engine, text

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres

#: How long an answer is used again, so that frequent requests put no load on the servers.
FRESH_S = 1.0
#: A server that takes longer does not answer.
PATIENCE_S = 1.5
#: How long a request waits at most. Until the patience is over, the last answer stands.
WAIT_S = 0.3
#: The time limit of one question to Kafka; for Postgres it is the engine's.
_LIMIT_S = 5.0


class Probe:
    """Asks one server; any thread may call it.

    ``ask`` returns when the server has answered, and raises Unavailable if it has not.
    """

    def __init__(
        self,
        ask: Callable[[], None],
        fresh_s: float = FRESH_S,
        patience_s: float = PATIENCE_S,
        wait_s: float = WAIT_S,
    ) -> None:
        """One ``ask`` runs at a time, however long it takes."""
        self._ask, self._fresh_s, self._patience_s, self._wait_s = ask, fresh_s, patience_s, wait_s
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._asked_at = self._answered_at = -fresh_s
        self._answered = False

    def __call__(self) -> bool:
        """Whether the server answers."""
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                if time.monotonic() - self._answered_at < self._fresh_s:
                    return self._answered
                # Not from a pool: at its end a program waits for those, and this one may wait for a server.
                self._asking = threading.Thread(target=self._find_out, name="probe", daemon=True)
                self._asked_at = time.monotonic()
                self._asking.start()
            asking, asked_at = self._asking, self._asked_at
        asking.join(self._wait_s)
        return self._answered and (not asking.is_alive() or time.monotonic() - asked_at < self._patience_s)

    def _find_out(self) -> None:
        answered = False
        try:
            self._ask()
            answered = True
        except Unavailable:
            pass
        finally:
            # Any other error is not an answer either; it ends the thread and is logged.
            self._answered, self._answered_at = answered, time.monotonic()


def kafka_answers(connections: Connections) -> Probe:
    """Whether a broker answers with metadata."""
    client = clients.admin(connections)

    def ask() -> None:
        try:
            client.list_topics(topics.raw(Entity.SALES), timeout=_LIMIT_S)
        except KafkaException as e:
            raise clients.unavailable(connections, e) from e

    return Probe(ask)


def postgres_answers(engine: Engine) -> Probe:
    """Whether the warehouse answers a query."""

    def ask() -> None:
        with postgres.outages(engine), engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    return Probe(ask)
