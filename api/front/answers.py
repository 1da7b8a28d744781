"""How the loop answers: by itself, or in a thread, by the same application that granian calls."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from werkzeug.test import run_wsgi_app

from api.front.client import Client, Phase
from api.front.pipeline import Pipeline
from api.front.waiting import Waiting
from api.headers import JsonResponse
from api.services import Services
from api.shortcut import WORK, Shortcut, SmallRequest
from api.watch import Watch
from shared.job import Job

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = structlog.get_logger()


class Answers:
    """Those that one process gives, and what they are made with."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        application: "WSGIApplication",
        shortcut: Shortcut,
        services: Services,
        pipeline: Pipeline,
        threads: Executor,
    ) -> None:
        self.loop = loop
        self.shortcut = shortcut
        self.services = services
        self.pipeline = pipeline
        self.threads = threads
        self._application = application

    def waiting(self, client: Client) -> Waiting:
        """For a client that may have to wait."""
        return Waiting(self.loop, client, self.services.waiters, self.pipeline.send_all)

    def respond(self, client: Client, asked: SmallRequest, response: JsonResponse) -> None:
        """Answer now."""
        client.respond(*self.shortcut.complete(response, asked).sent())

    def answer_news(
        self,
        client: Client,
        asked: SmallRequest,
        watch: Watch | None,
        made: Callable[[Job], JsonResponse],
        otherwise: Callable[[], None],
    ) -> None:
        """Answer with what is heard of a job; if that is nothing, do `otherwise`."""
        try:
            job = None if watch is None else watch.next(0)
            if job is not None:
                self.respond(client, asked, made(job))
                return
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self.fail(client, asked, error)
            return
        otherwise()

    def guarded(self, client: Client, work: Callable[..., None], *arguments: Any) -> Callable[[Any], None]:
        """Call it with the client, these, and one more; if it fails, the client is hung up on instead of forgotten."""

        def guarded(last: Any) -> None:
            try:
                work(client, *arguments, last)
            except Exception:
                log.exception("front.failed")
                client.abort()

        return guarded

    def fail(self, client: Client, asked: SmallRequest, error: Exception) -> None:
        """Have Flask answer an error."""
        self.rest_in_thread(client, asked, partial(_raise, error))

    def rest_in_thread(self, client: Client, asked: SmallRequest, work: Callable[[], JsonResponse]) -> None:
        """Have the rest of what was begun done in a thread."""
        asked.environ["HTTP_X_REQUEST_ID"] = asked.id
        asked.environ[WORK] = work
        self.in_thread(client, asked.environ)

    def in_thread(self, client: Client, environ: "WSGIEnvironment") -> None:
        """Have a request answered in a thread."""
        self.threads.submit(self._run, client, environ)

    def _run(self, client: Client, environ: "WSGIEnvironment") -> None:
        if client.phase is Phase.ENDING and WORK not in environ:
            return  # nothing was done for it yet, and nobody would be told
        try:
            blocks, line, fields = run_wsgi_app(self._application, environ, buffered=True)
        except BaseException:
            log.exception("front.failed")
            self.loop.call_soon_threadsafe(client.abort)
            raise
        status, body = int(line[:3]), b"".join(blocks)
        if status not in (204, 304):
            fields.setdefault("Content-Length", str(len(body)))
        self.loop.call_soon_threadsafe(client.respond, status, list(fields), body)


def _raise(error: Exception) -> JsonResponse:
    raise error
