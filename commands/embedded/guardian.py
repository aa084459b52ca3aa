"""A small program that stops processes after the process that started them has ended in any way.

Its standard input is a pipe. The parent holds the other end, and so does each child until it becomes its program. A
line `+pid signal` adds a process, which leads its own process group; `-pid` removes one that has been reaped. At the
end of the pipe, or when the parent process has changed, each process that is left gets its signal, and SIGKILL after
`GRACE_S` seconds. It runs as a script without site-packages: standard library only.
"""

import os
import select
import signal
import sys
import time

GRACE_S = 10.0
CHECK_EVERY_S = 1.0


class Watched:
    """One process, held by a pidfd where the system has them, so that a reused pid never gets a signal."""

    def __init__(self, pid: int, stop_signal: int) -> None:
        self.pid = pid
        self.stop_signal = stop_signal
        try:
            self.descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
            self.gone = False
        except OSError:
            self.descriptor, self.gone = None, True

    def alive(self) -> bool:
        if not self.gone and self.descriptor is not None:
            self.gone = bool(select.select([self.descriptor], [], [], 0)[0])
        elif not self.gone:
            try:
                os.kill(self.pid, 0)
            except OSError:
                self.gone = True
        return not self.gone

    def signal(self, number: int) -> None:
        if self.alive():
            try:
                # The leader is alive, so the process group still has its number.
                os.killpg(self.pid, number) if number == signal.SIGKILL else os.kill(self.pid, number)
            except OSError:
                self.gone = True


def follow(pipe: int, parent: int) -> list[Watched]:
    """Read the pipe until the parent has ended; returns the processes that are left then."""
    watched: dict[int, Watched] = {}
    rest = b""
    while True:
        # The pipe is read before the parent is checked: the parent may have been killed before our first check.
        if not select.select([pipe], [], [], CHECK_EVERY_S)[0]:
            if os.getppid() == parent:
                continue
            break
        data = os.read(pipe, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            words = line.split()
            pid = int(words[0][1:])
            if line.startswith(b"+"):
                watched[pid] = Watched(pid, int(words[1]))
            else:
                watched.pop(pid, None)
    return list(watched.values())


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    left = follow(sys.stdin.fileno(), int(sys.argv[1]))
    for process in left:
        process.signal(process.stop_signal)
    deadline = time.monotonic() + GRACE_S
    while any(process.alive() for process in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.signal(signal.SIGKILL)
    while any(process.alive() for process in left):
        time.sleep(0.05)


if __name__ == "__main__":
    main()
