"""TLS and SASL towards Kafka, from the environment: one description for librdkafka and for aiokafka.

The URLs of the other two servers hold theirs: ``https://user:password@host/…`` for the registry (its authority is in
``SSL_CERT_FILE``), ``postgresql://…?sslmode=verify-full&sslrootcert=…`` for Postgres.
"""

import ssl
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator


class Protocol(StrEnum):
    """Kafka's ``security.protocol``."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """Kafka's ``sasl.mechanism``, of those that need only a name and a password."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as e:
        raise ValueError(f"cannot be read ({e.strerror})") from e
    return path


PemFile = Annotated[
    Path | None, AfterValidator(lambda p: p and _readable(p)), Field(description="a file in PEM format")
]


class KafkaSecurity(BaseModel):
    """How clients speak to Kafka; by default in the clear and without a name."""

    kafka_security_protocol: Annotated[Protocol, Field(description=", ".join(Protocol))] = Protocol.PLAINTEXT
    kafka_sasl_mechanism: Annotated[Mechanism, Field(description=", ".join(Mechanism))] = Mechanism.SCRAM_SHA_512
    kafka_sasl_username: Annotated[str | None, Field(description="a name")] = None
    kafka_sasl_password: Annotated[SecretStr | None, Field(description="a password")] = None
    #: the authority that must have signed the brokers' certificates; unset: those that this machine trusts
    kafka_ssl_cafile: PemFile = None
    #: our own certificate and key, where brokers ask for them
    kafka_ssl_certfile: PemFile = None
    kafka_ssl_keyfile: PemFile = None

    @model_validator(mode="after")
    def _complete(self) -> "KafkaSecurity":
        protocol = self.kafka_security_protocol
        if self.sasl and not (self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={protocol} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD; set both"
            )
        if not self.sasl and (self.kafka_sasl_username or self.kafka_sasl_password):
            # They would be ignored, and the brokers might accept a client without a name.
            raise ValueError(
                f"KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD have no use with KAFKA_SECURITY_PROTOCOL={protocol}; "
                f"allowed with them: {Protocol.SASL_SSL}, {Protocol.SASL_PLAINTEXT}"
            )
        if not self.tls and (self.kafka_ssl_cafile or self.kafka_ssl_certfile or self.kafka_ssl_keyfile):
            raise ValueError(
                f"KAFKA_SSL_CAFILE, KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE have no use with "
                f"KAFKA_SECURITY_PROTOCOL={protocol}; allowed with them: {Protocol.SASL_SSL}, {Protocol.SSL}"
            )
        if bool(self.kafka_ssl_certfile) != bool(self.kafka_ssl_keyfile):
            raise ValueError(
                "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE are not both set; allowed: both of them, or neither"
            )
        return self

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.kafka_security_protocol in (Protocol.SSL, Protocol.SASL_SSL)

    @property
    def sasl(self) -> bool:
        """Whether clients give a name and a password."""
        return self.kafka_security_protocol in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL)

    def librdkafka(self) -> dict[str, Any]:
        """Settings for confluent-kafka; empty for the defaults."""
        if self.kafka_security_protocol is Protocol.PLAINTEXT:
            return {}
        config: dict[str, Any] = {"security.protocol": str(self.kafka_security_protocol)}
        if self.sasl and self.kafka_sasl_password is not None:
            config["sasl.mechanism"] = str(self.kafka_sasl_mechanism)
            config["sasl.username"] = self.kafka_sasl_username
            config["sasl.password"] = self.kafka_sasl_password.get_secret_value()
        files = {
            "ssl.ca.location": self.kafka_ssl_cafile,
            "ssl.certificate.location": self.kafka_ssl_certfile,
            "ssl.key.location": self.kafka_ssl_keyfile,
        }
        return config | {name: str(path) for name, path in files.items() if path is not None}

    def aiokafka(self) -> dict[str, Any]:
        """Settings for aiokafka's clients."""
        password = self.kafka_sasl_password
        return {
            "security_protocol": str(self.kafka_security_protocol),
            "ssl_context": self.ssl_context(),
            "sasl_mechanism": str(self.kafka_sasl_mechanism),
            "sasl_plain_username": self.kafka_sasl_username,
            "sasl_plain_password": None if password is None else password.get_secret_value(),
        }

    def ssl_context(self) -> ssl.SSLContext | None:
        """For clients that take Python's own TLS; None where connections are in the clear."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
        if self.kafka_ssl_certfile is not None:
            context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
        return context
