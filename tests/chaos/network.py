"""A network between processes of one machine that breaks on demand: a TCP proxy for each pair of them."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

BLOCK_BYTES: Final = 65_536
# Close at once and with a reset, as a firewall does that forgets a connection; see socket(7).
RESET: Final = struct.pack("ii", 1, 0)


class Link:
    """The connections of one process to another, through a port of ours.

    Every method may be called from any thread; what it breaks stays broken until `heal`.
    """

    def __init__(self, network: "Network", name: str, target: str | int) -> None:
        """Listen on a free port, for a target that is a port on loopback or the path of a unix socket."""
        self.name = name
        self._network = network
        self._target = target
        # Bound without listening: it keeps the port ours while connections are refused.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = int(self._holder.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}  # of the client -> of the target
        self._requests, self._answers = asyncio.Event(), asyncio.Event()
        self._requests.set()
        self._answers.set()
        self._delay_seconds = 0.0
        self._truncations = 0
        self._cut_when_healed = False
        # What was harmed so far: connections that were reset, blocks that were held or broken off; a refusal counts
        # as one, since nobody sees the connections that it refuses.
        self.harmed = 0
        network.do(self._listen())

    def cut(self) -> None:
        """Reset all open connections; new ones are as good as ever."""
        self._network.do(self._cut())

    def refuse(self) -> None:
        """Reset all open connections, and refuse new ones."""
        self._network.do(self._refuse())

    def delay(self, seconds: float) -> None:
        """Hold each block for so long, in both directions."""
        self._delay_seconds = seconds

    def stall(self) -> None:
        """Half-open: connections stay and new ones are accepted, but no byte gets through. It all comes when healed."""
        self._network.do(self._set(self._requests, False))
        self._network.do(self._set(self._answers, False))

    def mute(self) -> None:
        """Requests get through, their answers do not; the connections are reset when healed."""
        self._cut_when_healed = True
        self._network.do(self._set(self._answers, False))

    def truncate(self, answers: int) -> None:
        """Break off the next so many answers in the middle of a block, and their connections with them."""
        self._truncations = answers

    @property
    def truncations_left(self) -> int:
        """How many answers are still to be broken off."""
        return self._truncations

    def heal(self) -> None:
        """Be a good network again."""
        self._network.do(self._heal())

    def close(self) -> None:
        """Reset everything, and give the port back."""
        self._network.do(self._refuse())
        self._network.do(self._set(self._requests, True))
        self._network.do(self._set(self._answers, True))
        self._holder.close()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_port=True)

    async def _cut(self) -> None:
        for client, target in list(self._open.items()):
            self.harmed += 1
            _reset(client)
            _reset(target)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.harmed += 1
        await self._cut()

    async def _set(self, gate: asyncio.Event, opened: bool) -> None:
        gate.set() if opened else gate.clear()

    async def _heal(self) -> None:
        self._delay_seconds, self._truncations = 0.0, 0
        if self._cut_when_healed:
            self._cut_when_healed = False
            await self._cut()
        self._requests.set()
        self._answers.set()
        await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, str):
                answers, target = await asyncio.open_unix_connection(self._target)
            else:
                answers, target = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(client)
            return
        self._open[client] = target
        try:
            await asyncio.gather(
                self._pass_on(reader, target, self._requests), self._pass_on(answers, client, self._answers)
            )
        finally:
            del self._open[client]
            client.close()
            target.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(BLOCK_BYTES):
                if self._delay_seconds or not gate.is_set():
                    self.harmed += 1
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await gate.wait()
                if gate is self._answers and self._truncations > 0 and len(data) > 1:
                    self._truncations -= 1
                    self.harmed += 1
                    sink.write(data[: len(data) // 2])
                    sink.close()
                    _reset(self._open[sink])
                    return
                sink.write(data)
                await sink.drain()
            sink.write_eof()


def _reset(end: asyncio.StreamWriter) -> None:
    raw = end.get_extra_info("socket")
    if raw is not None and raw.family == socket.AF_INET and raw.fileno() >= 0:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.transport.abort()


class Network:
    """All links, and the thread that serves them."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the thread of the links, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def link(self, name: str, target: str | int) -> Link:
        """A new link."""
        link = Link(self, name, target)
        self.links.append(link)
        return link

    def close(self) -> None:
        """Close all links, and end the thread."""
        for link in self.links:
            link.close()
        self.do(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _settle(self) -> None:
        """Let every connection come to its end."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        _, late = await asyncio.wait(others, timeout=5) if others else (set(), set())
        for task in late:
            task.cancel()
