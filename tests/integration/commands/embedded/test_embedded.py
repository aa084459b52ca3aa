"""The embedded stack, as its commands show it: real servers in a directory of their own, on free ports."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from commands.embedded.home import Home
from commands.embedded.servers import Server
from commands.embedded.settings import EmbeddedSettings, Ports, is_free, variable_of
from commands.embedded.stack import AlreadyRunning, Stack
from tests.harness.eventually import eventually

VARIABLES = ["KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "DATABASE_URL"]


class Program:
    """`retail-stream` with a state directory and ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self.ports = Ports.free()
        ports = {variable_of(name): str(port) for name, port in self.ports}
        given = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        cache = {"RETAIL_STREAM_CACHE": str(EmbeddedSettings().cache)}
        self.env = given | cache | ports | {"RETAIL_STREAM_HOME": str(home)}

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "commands.cli", *arguments]
        # Pipes, as in $(...): it would not return if a server kept an end of one.
        return subprocess.run(command, capture_output=True, text=True, env=self.env | env, timeout=120, check=False)

    def start(self) -> dict[str, str]:
        done = self("infra", "--detach")
        assert done.returncode == 0, done.stderr
        lines = [line.removeprefix("export ").partition("=") for line in done.stdout.splitlines()]
        return {name: value for name, _, value in lines}

    def supervisor(self) -> int:
        running = self.home.running()
        assert running is not None
        return running.pid


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    # Not pytest's directory: as root, Postgres runs as another user, who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="retail-stream-test-"))
    folder.chmod(0o711)
    program = Program(folder / "home")
    yield program
    program("infra", "--reset")
    shutil.rmtree(folder)


@pytest.fixture
def env(program: Program) -> dict[str, str]:
    """The running stack's variables; it is started if the test before has stopped it."""
    return program.start()


def listening(pids: set[int], ports: Ports) -> set[str]:
    """Addresses in hex, as the kernel writes them, on which the processes, or any process on the ports, listen."""
    inodes = set()
    for pid in pids:
        # In a container even root may not look into a process of another user: Postgres is identified by its port.
        with contextlib.suppress(PermissionError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    ours = {f"{port:04X}" for _, port in ports}
    rows = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]]
    places = [(row[1].partition(":"), row[9]) for row in rows if row[3] == "0A"]
    assert ours <= {port for (_, _, port), _ in places}
    return {address for (address, _, port), inode in places if inode in inodes or port in ours}


def children(program: Program) -> set[int]:
    """Pids of the servers: children of the supervisor and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    pids = {program.supervisor()}
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids


def test_detach_prints_three_exports_and_all_servers_answer(env: dict[str, str]) -> None:
    assert list(env) == VARIABLES
    assert AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]}).list_topics(timeout=10).brokers
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with no_proxy.open(env["SCHEMA_REGISTRY_URL"] + "/subjects", timeout=10) as answer:
        assert answer.read() == b"[]"
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        query = "SELECT current_setting('TimeZone'), current_setting('fsync'), current_setting('server_encoding')"
        assert connection.execute(query).fetchone() == ("UTC", "on", "UTF8")


def test_a_second_start_finds_the_first(program: Program, env: dict[str, str]) -> None:
    before = program.supervisor()
    assert program.start() == env
    in_front = program("infra")
    assert in_front.returncode == 0
    assert "already running" in in_front.stderr
    assert f"export DATABASE_URL={env['DATABASE_URL']}" in in_front.stdout
    assert program.supervisor() == before
    with pytest.raises(AlreadyRunning), Stack(program.home.path, Ports.free()):
        pass


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_everything_listens_on_loopback_only(program: Program, env: dict[str, str]) -> None:
    addresses = listening(children(program), program.ports)
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_kafkas_own_tools_find_the_running_broker(program: Program, env: dict[str, str]) -> None:
    created = program("kafka-topics", "--create", "--topic", "seen.by.tools", "--partitions", "3")
    assert created.returncode == 0, created.stderr
    assert "seen.by.tools" in program("kafka-topics", "--list", **env).stdout.split()
    missing = program("kafka-topics", "--describe", "--topic", "is.not.there")
    assert missing.returncode == 1
    assert "--bootstrap-server" in program("kafka-console-consumer", "--help").stderr


def test_a_killed_server_is_started_again_with_what_it_held(program: Program, env: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(timeout=10)
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    postmaster = int((program.home.path / "postgres/data/postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)

    def kept() -> tuple[int] | None:
        with psycopg.connect(env["DATABASE_URL"], connect_timeout=2) as connection:
            return connection.execute("SELECT count(*) FROM kept").fetchone()

    assert eventually(kept, "Postgres is started again", 30, retry_on=psycopg.OperationalError) == (0,)
    assert "started again" in (program.home.logs / "supervisor.log").read_text()
    assert "kept" in admin.list_topics(timeout=10).topics


def test_nothing_is_left_when_the_supervisor_is_killed_and_it_starts_again(
    program: Program, env: dict[str, str]
) -> None:
    servers = children(program) - {program.supervisor()}
    assert len(servers) > 3
    os.kill(program.supervisor(), signal.SIGKILL)
    assert program.home.wait_released("servers", 30)
    assert not [pid for pid in servers if Path(f"/proc/{pid}/exe").exists()]
    assert all(is_free(port) for _, port in program.ports)
    assert program.start() == env


def test_a_taken_chosen_port_is_one_sentence_and_nothing_is_started(program: Program) -> None:
    program("infra", "--stop")
    with socket.create_server(("127.0.0.1", program.ports.postgres)):
        for arguments in (["infra"], ["infra", "--detach"]):
            refused = program(*arguments)
            assert refused.returncode == 2
            assert refused.stdout == ""
            (sentence,) = refused.stderr.splitlines()
            assert f"RETAIL_STREAM_POSTGRES_PORT={program.ports.postgres}: this port on 127.0.0.1 is taken" in sentence
    assert not program.home.is_held("servers")


@pytest.mark.long
def test_taken_default_ports_are_replaced_and_the_same_state_is_used(program: Program) -> None:
    """The state was made on chosen ports; the servers find it again on other ports."""
    made = program.start()
    admin = AdminClient({"bootstrap.servers": made["KAFKA_BOOTSTRAP_SERVERS"]})
    admin.create_topics([NewTopic("moved", 1, 1)])["moved"].result(timeout=10)
    with psycopg.connect(made["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE moved (x int)")
    program("infra", "--stop")
    default = {name: int(EmbeddedSettings.model_fields[variable_of(name).lower()].default) for name, _ in program.ports}
    for name in default:
        del program.env[variable_of(name)]
    with contextlib.ExitStack() as listening:
        for port in default.values():
            with contextlib.suppress(OSError):  # taken already, by a stack of this machine
                listening.enter_context(socket.create_server(("127.0.0.1", port)))
        done = program("infra", "--detach")
        assert done.returncode == 0, done.stderr
        for port in default.values():
            assert f"Port {port} on 127.0.0.1 is taken; using " in done.stderr
        env = dict(line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines())
        assert list(env) == VARIABLES
        assert not any(f":{port}/" in f"{value}/" for value in env.values() for port in default.values())
        admin = AdminClient({"bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"]})
        assert "moved" in admin.list_topics(timeout=10).topics
        with psycopg.connect(env["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM moved").fetchone() == (0,)
        assert program("infra", "--stop").returncode == 0
    program.env |= {variable_of(name): str(port) for name, port in program.ports}


def test_state_left_half_made_is_made_again(program: Program) -> None:
    program("infra", "--reset")
    home = program.home.path
    program.home.make()
    (home / "postgres.new" / "data").mkdir(parents=True)
    (home / "postgres.new" / "data" / "PG_VERSION").write_text("18\n")
    (home / "kafka" / "data").mkdir(parents=True)
    (home / "kafka" / "data" / "meta.properties").write_text("version=1\n")
    with Stack(home, program.ports, restart=False) as stack:
        for server in Server:
            assert stack.is_ready(server)


def test_postgres_killed_in_the_middle_of_a_long_statement_starts_again(program: Program) -> None:
    with Stack(program.home.path, program.ports, restart=False) as stack:
        with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
            connection.execute("CREATE TABLE t (x int)")
        # Its backend computes and does not notice that the postmaster is gone; the new one would wait for it.
        busy = psycopg.connect(stack.env["DATABASE_URL"])
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000) WHERE random() < 0")
        stack.kill(Server.POSTGRES)
        assert not stack.is_ready(Server.POSTGRES)
        stack.start(Server.POSTGRES)
        stack.wait_ready(Server.POSTGRES)
        with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        busy.close()


def test_reset_deletes_the_state_and_is_content_when_there_is_none(program: Program) -> None:
    program.home.make()
    neighbour = program.home.path.parent / "neighbour"
    neighbour.touch()
    for _ in range(2):
        assert program("infra", "--reset").returncode == 0
        assert not program.home.path.exists()
    assert neighbour.exists()


def test_a_directory_with_files_of_others_is_refused_and_not_reset(program: Program) -> None:
    program.home.path.mkdir()
    letter = program.home.path / "letter.txt"
    letter.write_text("dear all")
    refused = program("infra", "--detach")
    assert refused.returncode == 2
    assert "RETAIL_STREAM_HOME" in refused.stderr
    program("infra", "--reset")
    assert letter.exists()
    shutil.rmtree(program.home.path)
