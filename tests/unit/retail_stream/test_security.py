"""TLS and SASL: every client is told the same, and settings that contradict each other are one sentence."""

import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import certifi
import pytest

from retail_stream.avro.registry import Registry
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.kafka import clients
from retail_stream.settings import Connections, load

PLACES = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:8081",
    "DATABASE_URL": "postgresql://u:p@h/d",
}
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "retail",
    "KAFKA_SASL_PASSWORD": "not to be seen",
    "KAFKA_SSL_CAFILE": certifi.where(),
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    for name in Connections.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load_with(**variables: str) -> Connections:
        for name, value in {**PLACES, **variables}.items():
            monkeypatch.setenv(name, value)
        return load(Connections)

    return load_with


def test_by_default_nothing_is_said_of_security(given):
    connections = given()
    assert connections.librdkafka() == {}
    assert connections.ssl_context() is None
    assert connections.aiokafka()["security_protocol"] == "PLAINTEXT"


def test_both_clients_are_told_the_same(given):
    connections = given(**SASL)
    assert connections.librdkafka() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "retail",
        "sasl.password": "not to be seen",
        "ssl.ca.location": certifi.where(),
    }
    told = connections.aiokafka()
    assert told["ssl_context"].get_ca_certs()
    assert {name: value for name, value in told.items() if name != "ssl_context"} == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "retail",
        "sasl_plain_password": "not to be seen",
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_mechanism_is_one_that_both_clients_know(given, mechanism: str):
    given_ = {**SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": mechanism}
    del given_["KAFKA_SSL_CAFILE"]
    connections = given(**given_)
    told = connections.aiokafka()
    assert (told["security_protocol"], told["sasl_mechanism"]) == ("SASL_PLAINTEXT", mechanism)
    clients.consumer(connections, "group").close()


def test_tls_without_a_name_is_tls_alone(given):
    connections = given(KAFKA_SECURITY_PROTOCOL="SSL")
    assert connections.librdkafka() == {"security.protocol": "SSL"}
    assert connections.aiokafka()["security_protocol"] == "SSL"
    assert connections.aiokafka()["ssl_context"] is not None
    clients.consumer(connections, "group").close()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (
            {"KAFKA_SECURITY_PROTOCOL": "TLS"},
            "KAFKA_SECURITY_PROTOCOL='TLS' is not a known value; allowed: PLAINTEXT, SSL, ",
        ),
        (
            {**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"},
            "KAFKA_SASL_MECHANISM='GSSAPI' is not a known value; allowed: PLAIN, ",
        ),
        ({**SASL, "KAFKA_SASL_USERNAME": ""}, "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_SASL_USERNAME and "),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "have no use with KAFKA_SECURITY_PROTOCOL=SSL; allowed with them"),
        (
            {"KAFKA_SSL_CAFILE": certifi.where()},
            "have no use with KAFKA_SECURITY_PROTOCOL=PLAINTEXT; allowed with them",
        ),
        (
            {**SASL, "KAFKA_SSL_CAFILE": "/nowhere.pem"},
            "KAFKA_SSL_CAFILE='/nowhere.pem' cannot be read (No such file or directory); allowed: a file in PEM",
        ),
        ({**SASL, "KAFKA_SSL_KEYFILE": certifi.where()}, "are not both set; allowed: both of them, or neither."),
    ],
)
def test_what_is_wrong_or_contradicts_itself_is_one_sentence_without_the_password(given, variables, named):
    with pytest.raises(SettingsError) as caught:
        given(**variables)
    sentence = str(caught.value)
    assert named in sentence
    assert "\n" not in sentence
    assert "not to be seen" not in sentence


def test_a_password_is_not_in_what_is_printed_of_settings(given):
    assert "not to be seen" not in repr(given(**SASL))


@contextmanager
def registry_that_asks_for(user: str, password: str) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, told = (self.headers["Authorization"] or "").partition(" ")
            good = kind == "Basic" and b64decode(told).decode() == f"{user}:{password}"
            body = b"[]" if good else b'{"error_code": 401, "message": "who are you?"}'
            self.send_response(200 if good else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_registry_takes_name_and_password_from_its_url_and_no_error_shows_them():
    with registry_that_asks_for("retail", "p@ss") as port:
        assert Registry(f"http://retail:p%40ss@127.0.0.1:{port}").versions("sales.raw-value") == {}
        with pytest.raises(RetailStreamError) as caught:
            Registry(f"http://retail:wr0ng@127.0.0.1:{port}").versions("sales.raw-value")
    assert str(caught.value).startswith(
        f"http://127.0.0.1:{port}/subjects/sales.raw-value/versions answers with HTTP 401"
    )
    assert "wr0ng" not in str(caught.value)
