"""The front of one API process: a thread with an event loop, and the end of it."""

import asyncio
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
import uvloop
from flask import Flask

from api.front.answers import Answers
from api.front.client import IDLE_CONNECTIONS, Client, Clients, Phase
from api.front.head import Request
from api.front.pipeline import Pipeline
from api.front.small_jobs import SmallJobs
from api.services import Services
from api.shortcut import Shortcut

log = structlog.get_logger()

BACKLOG: Final = 1024
TICK_SECONDS: Final = 0.1
# As granian has it: a connection without a request is closed after so long.
IDLE_SECONDS: Final = 30.0
# A request that has not come whole by then is granian's, which knows how to deal with slow clients.
PATIENCE_SECONDS: Final = 1.0


class Front:
    """Accepts connections on the port of the service."""

    def __init__(self, app: Flask, address: bytes) -> None:
        """Keep the address of granian, which accepts connections there, or will in a moment."""
        self._services: Services = app.config["SERVICES"]
        self._settings = self._services.settings
        self._application = app.wsgi_app
        self._shortcut: Shortcut = app.config["SHORTCUT"]
        self._loop: asyncio.AbstractEventLoop
        self._jobs: SmallJobs
        self._server: asyncio.Server
        self._stops_at: float | None = None  # accepting; once the end has begun
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)
        self.address = address
        self.clients = Clients(self._settings.api_threads + self._settings.max_waiters + IDLE_CONNECTIONS)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Accept no more, and wait for what is being answered."""
        self._is_over = True
        self._thread.join(self._settings.stop_grace_seconds)

    def answer(self, client: Client, request: Request) -> None:
        """Have a request answered."""
        self._jobs.answer(client, request)

    def granian_is_gone(self) -> None:
        """It was told to end, without a sign before (api/stopping.py)."""
        self._services.stopping.begin()
        self._server.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException:
            log.exception("front.failed")
            os._exit(1)  # nobody would be answered; granian starts another process

    async def _serve(self) -> None:
        services, settings = self._services, self._settings
        loop = self._loop = asyncio.get_running_loop()
        services.connections.never_wait()
        with ThreadPoolExecutor(settings.api_threads, thread_name_prefix="front") as threads:
            pipeline = Pipeline(services.connections, loop, threads, settings.redis_timeout_seconds)
            pipeline.connect()
            self._jobs = SmallJobs(Answers(loop, self._application, self._shortcut, services, pipeline, threads))
            self._server = await loop.create_server(
                self._client, sock=public_socket(settings.host, settings.port), backlog=BACKLOG
            )
            while not self._is_over:
                await asyncio.sleep(TICK_SECONDS)
                self._look_after_all(loop.time())
            await self._end()

    async def _end(self) -> None:
        """Let nobody wait any more, answer what has come, and hang up when it is sent."""
        self._services.stopping.begin()
        self._server.close()
        while any(client.phase in (Phase.BUSY, Phase.TUNNEL) for client in self.clients):
            await asyncio.sleep(TICK_SECONDS / 10)
        for client in self.clients:
            client.end()
        while any(client.has_unsent for client in self.clients):
            await asyncio.sleep(TICK_SECONDS / 10)

    def _client(self) -> Client:
        self._services.bodies.begin()
        return Client(self._loop, self)

    def _look_after_all(self, now: float) -> None:
        if self._services.stopping.begun:
            # The server's parent waits for a little longer before it ends granian: see api/server.py.
            self._stops_at = self._stops_at or now + self._settings.stop_delay_seconds
            if now >= self._stops_at:
                self._server.close()
        idle_seconds = IDLE_SECONDS if self._server.is_serving() else 0.0
        for client in self.clients:
            try:
                client.look_after(
                    now,
                    idle_seconds=idle_seconds,
                    patience_seconds=PATIENCE_SECONDS,
                    stuck_seconds=self._settings.stuck_client_seconds,
                )
            except Exception:
                log.exception("front.failed")
                client.abort()


def own_socket() -> socket.socket:
    """For granian: one at an address that the kernel finds (unix(7), autobind), so that nothing is left of it.

    Who comes before granian accepts waits.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.bind("")
    found.listen(BACKLOG)
    found.setblocking(False)
    return found


def public_socket(host: str, port: int) -> socket.socket:
    """One that listens to clients, at an address that all processes of the service share.

    Raises:
        OSError
    """
    is_v6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_v6 else socket.AF_INET,
        backlog=BACKLOG,
        reuse_port=True,
        dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
    )
