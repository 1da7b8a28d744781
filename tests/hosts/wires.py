"""What is between the hosts: network namespaces of this machine, or addresses of its loopback where there may be none.

Nothing that is sent leaves the machine: no namespace has a route out of the network that is made here.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import psutil

from tests.disk import call

MARK: Final = "foretell"
# RFC 2544, appendix C.2.2: for tests between devices, used by no other network.
NETWORK: Final = "198.18"
# linux/sched.h
CLONE_NEWNET: Final = 0x40000000


class Wires(Protocol):
    """Gives hosts addresses, and takes them off the network."""

    kind: str  # for reports
    cuts: bool  # whether a host can be taken off the network while its processes go on

    def address(self, name: str) -> str:
        """That of a new host."""

    def around(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that runs a command on a host."""

    def cut(self, name: str) -> None:
        """Let nothing pass to or from a host."""

    def mend(self, name: str) -> None:
        """Let everything pass again."""

    def close(self) -> None:
        """Take it all away."""


class Namespaces:
    """A namespace for each host, and one with the bridge that joins them; we have an address on it ourselves."""

    kind = "network namespaces"
    cuts = True

    def __init__(self) -> None:
        """Make the bridge.

        Raises:
            OSError: that is not allowed here.
        """
        _forget_dead()
        self._names: list[str] = []
        self._bridge = self._namespace("bridge")
        self._ours = f"fth{os.getpid()}"
        try:
            self._subnet = self._join()
        except BaseException:
            self.close()
            raise

    def address(self, name: str) -> str:
        """That of a new host, whose wire ends at the bridge."""
        self._names.append(name)
        space, number = self._namespace(name), len(self._names)
        inside = ("ip", "-n", space)
        call(*inside, "link", "set", "lo", "up")
        call(*inside, "link", "add", "wire", "type", "veth", "peer", "name", f"w{number}", "netns", self._bridge)
        address = f"{NETWORK}.{self._subnet}.{number}"
        call(*inside, "address", "add", f"{address}/24", "dev", "wire")
        call(*inside, "link", "set", "wire", "up")
        call("ip", "-n", self._bridge, "link", "set", f"w{number}", "master", "bridge", "up")
        return address

    def around(self, name: str, command: Sequence[str]) -> list[str]:
        """In the namespace, with the host's name; the process is the command's own in the end."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]
        return ["ip", "netns", "exec", self._space(name), *named]

    def cut(self, name: str) -> None:
        """Pull the wire out of the bridge: packets are lost, and nobody is told."""
        self._set(name, "down")

    def mend(self, name: str) -> None:
        """Put it in again."""
        self._set(name, "up")

    def close(self) -> None:
        """Remove all namespaces, and with them the links that end there."""
        for name in ("bridge", *self._names):
            with contextlib.suppress(OSError):  # it was never made
                call("ip", "netns", "delete", self._space(name))

    def _join(self) -> int:
        """Our own end; the third byte of the addresses, which no other network of this machine has."""
        inside = ("ip", "-n", self._bridge)
        call(*inside, "link", "add", "bridge", "type", "bridge")
        call(*inside, "link", "set", "bridge", "up")
        call("ip", "link", "add", self._ours, "type", "veth", "peer", "name", "w0", "netns", self._bridge)
        call(*inside, "link", "set", "w0", "master", "bridge", "up")
        taken = call("ip", "-4", "-o", "address")
        subnet = next(number for number in range(1, 255) if f" {NETWORK}.{number}." not in taken)
        call("ip", "address", "add", f"{NETWORK}.{subnet}.254/24", "dev", self._ours)
        call("ip", "link", "set", self._ours, "up")
        return subnet

    def _namespace(self, name: str) -> str:
        call("ip", "netns", "add", self._space(name))
        return self._space(name)

    def _space(self, name: str) -> str:
        return f"{MARK}-{os.getpid()}-{name}"

    def _set(self, name: str, state: str) -> None:
        call("ip", "-n", self._bridge, "link", "set", f"w{self._names.index(name) + 1}", state)


class Loopback:
    """An address of the loopback for each host; one is cut off by halting its processes, which is for Host to do."""

    kind = "addresses of the loopback"
    cuts = False

    def __init__(self) -> None:
        self._count = 0

    def address(self, name: str) -> str:
        """The next one."""
        self._count += 1
        return f"127.0.1.{self._count}"

    def around(self, name: str, command: Sequence[str]) -> list[str]:
        """The command itself."""
        return list(command)

    def cut(self, name: str) -> None:
        """Nothing: its processes are halted."""

    def mend(self, name: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing was made."""


def apart() -> None:
    """Give this thread, and what it starts, a network of its own with nothing but a loopback, where that is allowed.

    A browser gives up its requests when the network of its machine changes, as it does with each link that is made.
    """
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
        call("ip", "link", "set", "lo", "up")


@contextlib.contextmanager
def wires(*, loopback: bool = False) -> Iterator[Wires]:
    """Namespaces if they are allowed and nobody asks for the loopback; all of it is gone afterwards."""
    made: Wires
    try:
        made = Loopback() if loopback else Namespaces()
    except OSError:
        made = Loopback()
    try:
        yield made
    finally:
        made.close()


def remains() -> list[str]:
    """The namespaces and links of ours that are still there."""
    spaces = [name for name in _spaces() if name.startswith(f"{MARK}-{os.getpid()}-")]
    links = [f"fth{os.getpid()}"] if Path(f"/sys/class/net/fth{os.getpid()}").exists() else []
    return spaces + links


def _forget_dead() -> None:
    """Remove the namespaces of a run that was killed."""
    for name in _spaces():
        mark, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if mark == MARK and pid.isdigit() and not psutil.pid_exists(int(pid)):
            call("ip", "netns", "delete", name)


def _spaces() -> list[str]:
    folder = Path("/run/netns")
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
