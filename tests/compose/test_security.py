"""The four services, `init` and `verify` on a broker that requires TLS, a name and a password."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.embedded.servers import Server
from commands.init import InitSettings, initialise
from commands.status.status import Status, look
from commands.verify.run import run
from retail_stream.errors import Unavailable
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres
from tests.harness.containers import Project
from tests.harness.eventually import PATIENCE_S, eventually

PASSWORD = "of-the-test"
OVERRIDE = """
services:
  kafka:
    volumes: ["{folder}:/etc/tls:ro"]
    environment:
      PROPERTIES: |
        listener.security.protocol.map=INSIDE:PLAINTEXT,HOST:SASL_SSL,CONTROLLER:PLAINTEXT
        listener.name.host.sasl.enabled.mechanisms=SCRAM-SHA-512
        listener.name.host.scram-sha-512.sasl.jaas.config=\\
          org.apache.kafka.common.security.scram.ScramLoginModule required;
        listener.name.host.ssl.keystore.type=PEM
        listener.name.host.ssl.keystore.location=/etc/tls/server.pem
"""


def certify(folder: Path) -> None:
    """``ca.pem``: an authority, and ``server.pem``: a key and the certificate that it gave to 127.0.0.1."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=6))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "ca.pem").write_bytes(certificate)
    (folder / "server.pem").write_bytes(private + certificate)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of a client that the broker takes."""
    folder = tmp_path_factory.mktemp("secure")
    tls = folder / "tls"
    tls.mkdir()
    certify(tls)
    # The broker, as a user of its own in its container, has to get through.
    for path in (tls / "server.pem", tls, folder, *folder.parents):
        if path.name.startswith(("server", "tls", "secure", "pytest-")):
            path.chmod(0o755)
    override = folder / "override.yml"
    override.write_text(OVERRIDE.format(folder=tls))
    project = Project(folder, {}, ("docker-compose.yml", str(override)))
    with project.here():
        project("up", "--wait", *Server)
        project(
            *("exec", "-T", "kafka", "/opt/kafka/bin/kafka-configs.sh", "--bootstrap-server", "kafka:9092", "--alter"),
            *("--entity-type", "users", "--entity-name", "retail"),
            *("--add-config", f"SCRAM-SHA-512=[password={PASSWORD}]"),
        )
        yield {
            **project.env,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": "retail",
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CAFILE": str(tls / "ca.pem"),
        }


def settings(env: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in env.items()}


def test_whoever_has_no_password_or_another_is_not_let_in(env: dict[str, str]):
    plain = {name: value for name, value in env.items() if not name.startswith("KAFKA_S")}
    for wrong in (plain, {**env, "KAFKA_SASL_PASSWORD": "another"}):
        with pytest.raises(Unavailable):
            topic_partitions(Connections.model_validate(settings(wrong)), "sales.raw")


def test_the_pipeline_flows_and_verify_agrees(env: dict[str, str], tmp_path: Path):
    initialise(InitSettings.model_validate(settings(env)), patience_s=PATIENCE_S)
    connections = Connections.model_validate(settings(env))
    warehouse = postgres.engine(connections.database_url)
    with ProcessGroup() as group:
        # No worker dies here. One that is missed too early joins anew, with the handshakes of all its clients.
        own = {"GENERATOR_MAX_SALES": "300", "KAFKA_SESSION_TIMEOUT_S": "10"}
        pipeline = Pipeline(group, {**os.environ, **env, **own}, tmp_path)
        for service in Service:
            pipeline.start(service)

        def there() -> str:
            logs = {s.value: pipeline.log(s).read_text()[-2000:] for s in Service}
            return f"drained; ended: {pipeline.dead()}; {seen[-1:]}, {logs}"

        def drained() -> bool:
            ended = pipeline.dead()
            assert ended in ({}, {Service.GENERATOR: 0}), there()
            if not ended:
                return False
            seen.append(wait_for(lambda: look(warehouse, connections), PATIENCE_S))
            return seen[-1].facts > 0 and seen[-1].drained

        # Each look makes clients, which prove their passwords anew: work that the services wait for.
        seen: list[Status] = []
        eventually(drained, there, PATIENCE_S, every_s=1)
        report = run(connections)
    warehouse.dispose()
    assert report.ok, report.failed
