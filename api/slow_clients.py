"""Cuts off clients that send or read so slowly that they would hold a thread for ever.

granian tells its application neither the connection of a request nor lets a read of it be interrupted. But the kernel
knows of every connection how many bytes have come and gone: on one that waits for a client nothing moves, or next to
nothing. So the connections of this process are looked at from time to time, and one on which for long

- there was something to send and the client took none of it, is closed, or
- nothing was sent and fewer bytes came than may, while a thread waits for a body and none of ours keeps a client
  waiting for as long, is closed for reading, which ends the read of the body; if that changes nothing, for writing too.

Connections without a request are ended by granian before that. All of it needs Linux; elsewhere bodies are bounded in
number only.
"""

import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from api.bodies import Bodies

log = structlog.get_logger()

OPEN: Final = Path("/proc/self/fd")  # proc_pid_fd(5)
# How often connections are looked at while a client is slow for as long as it may be.
LOOKS: Final = 6
# struct tcp_info of linux/tcp.h: tcpi_unacked; tcpi_bytes_acked and tcpi_bytes_received; tcpi_notsent_bytes.
INFO_BYTES: Final = 256
UNACKED: Final = struct.Struct("=24xI")
MOVED: Final = struct.Struct("=120xQQ8xI")


class Sample(NamedTuple):
    """What had moved on a connection at some time."""

    at: float
    taken: int  # bytes that the client has acknowledged
    came: int


@dataclass(slots=True)
class Line:
    """What is known of a connection."""

    stuck_since: float  # the client has taken nothing since then, or had nothing to take
    samples: deque[Sample] = field(default_factory=deque)
    cut: bool = False


class SlowClients:
    """Looks after the connections of one process."""

    def __init__(self, bodies: Bodies, port: int) -> None:
        """Keep the port that the process listens on."""
        self._bodies = bodies
        self._port = port
        self._lines: dict[int, Line] = {}  # by the inode of the socket

    def start(self) -> None:
        """Look after them from now on, where the system tells what has moved."""
        if OPEN.exists() and hasattr(socket, "TCP_INFO"):
            threading.Thread(target=self._look_for_ever, name="slow-clients", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(self._bodies.slow_seconds / LOOKS)
            try:
                self.look(time.monotonic())
            except Exception as error:  # the next look may go well
                log.error("slow_clients.failed", exc_info=error)

    def look(self, now: float) -> None:
        """Note what has moved, and cut off who is too slow."""
        overdue, there = self._bodies.overdue(now), set()
        for inode, connection in self._connections():
            there.add(inode)
            line = self._lines.setdefault(inode, Line(now))
            with suppress(OSError):  # it is closed by now
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
                taken, came, unsent = MOVED.unpack_from(info)
                self._judge(connection, line, Sample(now, taken, came), overdue, unsent + UNACKED.unpack_from(info)[0])
        self._lines = {inode: line for inode, line in self._lines.items() if inode in there}

    def _judge(self, connection: socket.socket, line: Line, sample: Sample, overdue: bool, waiting: int) -> None:
        if not waiting or not line.samples or line.samples[-1].taken != sample.taken:
            line.stuck_since = sample.at
        line.samples.append(sample)
        slow = sends_slowly(line.samples, self._bodies.slow_seconds, self._bodies.slow_rate)
        if sample.at - line.stuck_since >= self._bodies.stuck_seconds:
            self._cut(connection, line, "reads")
        elif overdue and slow and not waiting:
            self._cut(connection, line, "sends")

    def _connections(self) -> Iterator[tuple[int, socket.socket]]:
        """The connections of clients, each a copy that is closed again."""
        for entry in OPEN.iterdir():
            with _copied(int(entry.name)) as found:
                if found is not None and _is_ours(found, self._port):
                    yield os.fstat(found.fileno()).st_ino, found

    def _cut(self, connection: socket.socket, line: Line, what: str) -> None:
        # A client that sends too slowly shall read why; so only what comes is refused at first.
        whole = line.cut or what == "reads"
        log.info("client.cut_off", address=connection.getpeername()[0], too_slowly=what)
        line.cut = True
        if what == "sends":
            self._bodies.last_cut = time.monotonic()
        connection.shutdown(socket.SHUT_RDWR if whole else socket.SHUT_RD)


def sends_slowly(samples: deque[Sample], seconds: float, rate: float) -> bool:
    """Whether nothing was sent for so long, and fewer bytes came than `rate` a second; drops what is older."""
    newest = samples[-1]
    while len(samples) > 1 and newest.at - samples[1].at >= seconds:
        samples.popleft()
    oldest = samples[0]
    span = newest.at - oldest.at
    return span >= seconds and newest.taken == oldest.taken and newest.came - oldest.came < rate * span


@contextmanager
def _copied(descriptor: int) -> Iterator[socket.socket | None]:
    """A copy of a descriptor as a socket, for a moment: meanwhile the number may come to mean something else."""
    copy = -1
    try:
        copy = os.dup(descriptor)
        found = socket.socket(fileno=copy)
    except OSError:  # it is closed by now, or no socket
        if copy >= 0:
            os.close(copy)
        yield None
        return
    with found:
        yield found


def _is_ours(found: socket.socket, port: int) -> bool:
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
            return False
        return bool(found.getsockname()[1] == port and found.getpeername())
    except OSError:  # it listens, or was closed
        return False
