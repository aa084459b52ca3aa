"""`retail-stream init`: create topics, schemas and tables; idempotent."""

from typing import Annotated, Self

import structlog
from alembic import command
from alembic.config import Config
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from pydantic import Field, SecretStr, model_validator
from sqlalchemy import text

from commands.retention import topics as topic_retention
from commands.retention.settings import TopicRetention
from retail_stream.avro.compatibility import COSTS, STRICTEST, UNKNOWN_COST
from retail_stream.avro.registry import Registry, SchemaRefused
from retail_stream.kafka import clients
from retail_stream.package_data import folder
from retail_stream.rules.rule_set import load_all
from retail_stream.settings import Connections
from retail_stream.topics import AHEAD, TOPICS, Result, Topic
from retail_stream.topics import topic as topic_of
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres
from retail_stream.warehouse import roles as reader_role
from services.aggregator import declared, facts, outbox, tables

MIGRATIONS = folder("migrations")
#: Months whose facts have a partition before their first sale, beside the current one. The aggregator makes later ones.
MONTHS_AHEAD = 2
# A lock in the database: two `init` at once, as by compose and a person, run one after the other.
_LOCK = 7_265_746_169
_log = structlog.get_logger(__name__)


class InitSettings(TopicRetention):
    """The three servers, how to create topics, and how long they keep records."""

    topic_partitions: Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")] = 4
    topic_replication_factor: Annotated[int, Field(ge=1, le=10, description="a whole number from 1 to 10")] = 1
    #: replicas that must have a record before it counts as written
    topic_min_insync_replicas: Annotated[int, Field(ge=1, le=10, description="a whole number from 1 to 10")] = 1
    #: with which the role that may only read may log in; unset or empty: it may not
    retail_stream_reader_password: Annotated[SecretStr, Field(description="a password")] = SecretStr("")

    @model_validator(mode="after")
    def _enough_replicas(self) -> Self:
        least, replicas = self.topic_min_insync_replicas, self.topic_replication_factor
        if least > replicas:
            # No record could ever be written.
            raise ValueError(
                f"TOPIC_MIN_INSYNC_REPLICAS={least} is more than "
                f"TOPIC_REPLICATION_FACTOR={replicas}; allowed: at most that"
            )
        return self


def initialise(settings: InitSettings, patience_s: float | None = COMMAND_PATIENCE_S) -> None:
    """Create what is missing and keep what exists.

    Raises:
        Unavailable: a server did not answer for ``patience_s`` seconds (None: wait for ever).
        RuleError: a rule of `schemas/rules` is not valid; nothing was created.
        SettingsError: an entry of `schemas/windows.toml` is not valid, or that of a table with rows has changed.
    """
    # A rule or an entry that is not valid would stop a service later.
    load_all()
    declared.load()
    wait_for(lambda: create_topics(settings), patience_s)
    wait_for(lambda: _register_schemas(settings), patience_s)
    password = settings.retail_stream_reader_password.get_secret_value()
    wait_for(lambda: migrate(settings, password or None), patience_s)


def create_topics(settings: InitSettings) -> None:
    """Create missing topics; set the timestamp limit of raw topics that lack it, and the retention that is chosen.

    Raises:
        Unavailable: Kafka does not answer.
    """
    wanted = [
        NewTopic(
            t.name,
            num_partitions=settings.topic_partitions,
            replication_factor=settings.topic_replication_factor,
            config={**t.config, "min.insync.replicas": str(settings.topic_min_insync_replicas)},
        )
        for t in TOPICS
    ]
    created = 0
    client = clients.admin(settings)
    for future in client.create_topics(wanted, request_timeout=10).values():
        try:
            future.result()
            created += 1
        except KafkaException as e:
            error = e.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                raise clients.unavailable(settings, e) from e
            raise
    _log.info("topics", created=created, all=len(TOPICS))
    if created < len(TOPICS):
        _bound_timestamps(settings, client)
    topic_retention.apply(settings, client)


def _bound_timestamps(settings: InitSettings, client: AdminClient) -> None:
    """Set AHEAD on existing raw topics that lack it: a record from the future would move the watermark there.

    Their other settings are their owner's choice and stay.
    """
    wanted = {ConfigResource(ResourceType.TOPIC, t.name): t.config[AHEAD] for t in TOPICS if AHEAD in t.config}
    try:
        current = {
            r: f.result()[AHEAD].value for r, f in client.describe_configs([*wanted], request_timeout=10).items()
        }
        for resource, value in wanted.items():
            if current[resource] != value:
                change = ConfigEntry(AHEAD, value, incremental_operation=AlterConfigOpType.SET)
                resource.add_incremental_config(change)
                client.incremental_alter_configs([resource], request_timeout=10)[resource].result()
                _log.warning("topic changed", topic=resource.name, **{AHEAD: value}, was=current[resource])
    except KafkaException as e:
        error = e.args[0]
        if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
            raise clients.unavailable(settings, e) from e
        _log.warning(f"cannot set {AHEAD} of raw topics; set it yourself", why=error.str())


def _register_schemas(settings: InitSettings) -> None:
    registry = Registry(settings.schema_registry_url)
    for topic in TOPICS:
        if topic.schema_file is not None:
            _set_mode(registry, topic)
            registry.register(topic.subject, topic.schema())
    # After those that are always there: a registry that lost all of them gives them their old ids.
    if (further := outbox.further_schema(declared.load())) is not None:
        registry.register(topic_of(Result.WINDOWS).subject, further)
    _log.info("schemas", registered=sum(t.schema_file is not None for t in TOPICS))


def _set_mode(registry: Registry, topic: Topic) -> None:
    """Set a subject's mode; a warning names a looser one of a raw subject, because schemas may have come under it."""
    before, mode = registry.mode(topic.subject), topic.compatibility
    if before == mode:
        return
    try:
        registry.set_mode(topic.subject, mode)
    except SchemaRefused:
        # Another `init` may have set it since.
        if registry.mode(topic.subject) != mode:
            raise
    if mode == STRICTEST and before is not None:
        cost = f"until now {COSTS.get(before, UNKNOWN_COST)}; the schemas that are registered stay"
        _log.warning("subject changed", subject=topic.subject, compatibility=mode, was=before, cost=cost)


def migrate(settings: Connections, reader_password: str | None = None) -> None:
    """Migrate the tables of ``DATABASE_URL`` to the newest version.

    ``reader_password``: of the role that may only read; None: it may not log in.

    Raises:
        SettingsError: an entry of `schemas/windows.toml` is not valid, or that of a table with rows has changed.
        Unavailable: Postgres does not answer.
    """
    declarations = declared.load()
    engine = postgres.engine(settings.database_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with postgres.outages(engine), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            facts.make_ahead(connection, MONTHS_AHEAD)
            tables.make(connection, declarations)
            reader_role.create(connection, reader_password)
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    finally:
        engine.dispose()
    _log.info("warehouse", schema=version)
