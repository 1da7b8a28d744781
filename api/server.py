"""`python -m api.server`: granian with its own options, whose processes hear of the end before it comes.

At SIGTERM granian closes the listening socket and idle connections at once, finishes the requests under way, and
kills what is not finished after `--workers-kill-timeout`. Requests that wait for a job would take all of that time,
and a load balancer would go on sending for a moment. So every process is told first (api/stopping.py).
"""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import granian.cli
from granian._granian import SocketHolder
from granian.server.mp import MPServer, WorkerProcess

from api.shortcut import may_answer
from api.stopping import SIGNAL
from shared.settings import load_settings

if TYPE_CHECKING:
    from flask import Flask

# CPython may lose two signals that a process gets at the same moment: of a hundred such pairs some thirty were never
# handled (3.11, a main thread that waits, several others), and none that were 1 ms apart.
# Meanwhile the front (api/front) notices the first, and accepts no more connections.
APART_SECONDS: Final = 0.3
FIRST: Final = 100  # of what is done when a process ends


def raise_file_limit() -> None:
    """Each client is an open file, and more where granian has it; many systems allow 1,024 unless asked for more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _behind_front(
    target: Callable[..., None],
    backlog: int,
    number: int,
    name: str | None,
    load: Callable[[], "Flask"],
    _sockets: object,
    *more: Any,
) -> None:
    """Begin a process of granian's (MPServer._spawn_wsgi_worker) with a socket of its own, and the front."""
    from api.front.loop import Front, own_socket

    own = own_socket()
    address = own.getsockname()

    def load_both() -> "Flask":
        app = load()
        front = Front(app, address)
        front.start()
        multiprocessing.util.Finalize(None, front.finish, exitpriority=FIRST)
        return app

    target(number, name, load_both, ((None, SocketHolder(own.detach(), True, backlog)), None), *more)  # type: ignore[call-arg]  # as it is


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _begin() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_go()


class Server(MPServer):
    """Granian's server with processes.

    Where there is a front (api/front), that is what listens to clients, in each process.
    """

    def startup(self, *arguments: object, **options: object) -> None:
        """Start."""
        if sys.platform == "linux":
            raise_file_limit()
        # Inherited by the children, until they listen to it.
        signal.signal(SIGNAL, signal.SIG_IGN)
        # A child begins with the handlers of its parent, which do nothing in it: a SIGTERM that came before it has its
        # own would be lost, and it would serve until it is killed. It is held back over the fork, and ends the child.
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_begin)
        # Before the port is open: connections would wait there while each child imports it.
        import api.app  # noqa: F401

        if load_settings().tracing:
            import shared.otlp  # noqa: F401

        super().startup(*arguments, **options)  # type: ignore[no-untyped-call]

    def _spawn_worker(  # type: ignore[override]  # as in MPServer
        self, idx: int, target: Callable[..., None], callback_loader: Callable[[], "Flask"]
    ) -> WorkerProcess:
        # Its event loop, and the sockets that it uses, are those of Linux.
        if sys.platform == "linux" and may_answer(load_settings()):
            target = partial(_behind_front, target, self.backlog)
        return super()._spawn_worker(idx, target, callback_loader)

    def shutdown(self, exit_code: int = 0) -> None:
        """Say that the end is near, serve for a moment more, and end."""
        for child in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):
                if child.pid is not None:
                    os.kill(child.pid, SIGNAL)
        time.sleep(load_settings().stop_delay_seconds + APART_SECONDS)
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    granian.cli.Server = Server  # type: ignore[attr-defined]
    granian.cli.entrypoint()  # type: ignore[no-untyped-call]
