"""The two requests of a small job, answered by the loop: a submit of rows, and a look at a job.

The loop never waits. What would have to, and all that is out of the ordinary, is done in threads, by the same
application that granian calls: before anything was changed, or as the rest of what was begun here.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from werkzeug.test import run_wsgi_app

from api.front.client import Client, Phase
from api.front.head import Request, environ_of
from api.front.pipeline import Pipeline
from api.front.waiting import Waiting
from api.headers import JsonResponse
from api.intake import accept, accepted_response
from api.render import job_response
from api.services import Services
from api.shortcut import WORK, Shortcut, SmallRequest
from api.submission import Draft, queued, ring, tell
from api.waiting import must_read
from api.watch import Watch
from shared.connection import WouldWait
from shared.job import Job
from shared.records import Accepted, AliasMoved

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = structlog.get_logger()

# To check the rows of a larger body takes so long that other clients would notice.
MOST_BODY_BYTES: Final = 2**13


class SmallJobs:
    """Answers the requests of one process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        application: "WSGIApplication",
        shortcut: Shortcut,
        services: Services,
        pipeline: Pipeline,
        threads: Executor,
    ) -> None:
        self._loop = loop
        self._application = application
        self._shortcut = shortcut
        self._services = services
        self._pipeline = pipeline
        self._threads = threads
        self._patience_seconds = services.settings.poll_patience_seconds
        self._expected = services.waiters.expected

    def answer(self, client: Client, request: Request) -> None:
        """Answer a request, now or later."""
        environ, taken = environ_of(request), False
        asked = SmallRequest(environ)
        try:
            if len(request.body) <= MOST_BODY_BYTES and self._shortcut.takes(environ):
                taken = self._look(client, asked) if request.method == "GET" else self._submit(client, asked)
        except WouldWait:
            pass
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self._rest_in_thread(client, asked, partial(_raise, error))
            return
        if not taken:
            self._in_thread(client, environ)

    def _look(self, client: Client, asked: SmallRequest) -> bool:
        seen = self._shortcut.looked_at(asked)
        if seen is None:
            return False
        job_id, who = seen
        job = self._expected.take(job_id, who.owner)
        if job is None:
            spec = self._expected.awaits(job_id, who.owner)
            if spec is None or not self._patience_seconds:
                return False
            with Waiting(self._loop, client) as waiting:
                if not waiting.watch(self._services, job_id, spec, who.limits.waiters):
                    return False
                # Its end may have been heard before the watch began.
                job = self._expected.take(job_id, who.owner)
                if job is None:
                    waiting.begin(self._patience_seconds, self._guarded(client, self._looked, asked))
                    return True
        self._respond(client, asked, job_response(job, 200))
        return True

    def _looked(self, client: Client, asked: SmallRequest, watch: Watch | None) -> None:
        def made(job: Job) -> JsonResponse:
            self._expected.forget((job.id,))
            return job_response(job, 200)

        self._told(client, asked, watch, made, lambda: self._in_thread(client, asked.environ))

    def _submit(self, client: Client, asked: SmallRequest) -> bool:
        if self._services.settings.replicas_acknowledge:
            return False
        rows = self._shortcut.rows(asked)
        if rows is None:
            return False
        drafted, wait = rows
        draft = drafted()
        job = draft.first
        with Waiting(self._loop, client) as waiting:
            if wait and not waiting.watch(self._services, job.id, job.spec, job.limits.waiters):
                return False
            if wait is None:
                self._services.waiters.expect(job)
            script, arguments = self._services.store.submission(job)
            told = self._guarded(client, self._stored, asked, draft, wait, waiting)
            if self._pipeline.send(script, arguments, told):
                waiting.keep()
                return True
        self._expected.forget((job.id,))
        return False

    def _stored(
        self, client: Client, asked: SmallRequest, draft: Draft, wait: float | None, waiting: Waiting, reply: Any
    ) -> None:
        job = draft.first
        with waiting:
            # If need be once more, under the same id: a submit may safely be repeated.
            accepted, rest = None, partial(accept, self._services, lambda: draft, wait)
            try:
                accepted = self._accepted(draft, reply)
            except Exception as error:  # noqa: BLE001  # Flask answers it
                rest = partial(_raise, error)
            if accepted is None or not accepted.created:
                self._expected.forget((job.id,))
                self._rest_in_thread(client, asked, rest)
                return
            tell(job)
            if accepted.ring:
                self._threads.submit(ring, self._services, job.queue)
            made = partial(accepted_response, wait=wait)
            if not wait:
                self._respond(client, asked, made(queued(job, accepted)))
                return

            def read() -> JsonResponse:
                return made(must_read(self._services, job.id, job.spec.owner))

            def awaited(client: Client, watch: Watch | None) -> None:
                self._told(client, asked, watch, made, lambda: self._rest_in_thread(client, asked, read))

            waiting.begin(wait, self._guarded(client, awaited))

    def _accepted(self, draft: Draft, reply: Any) -> Accepted | None:
        """What became of the job; None if that is not known, or its alias has moved."""
        try:
            return None if reply is None else self._services.store.accepted(draft.first, reply)
        except AliasMoved:
            return None

    def _told(
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
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self._rest_in_thread(client, asked, partial(_raise, error))
            return
        if job is None:
            otherwise()
        else:
            self._respond(client, asked, made(job))

    def _guarded(self, client: Client, work: Callable[..., None], *arguments: Any) -> Callable[[Any], None]:
        """Call it with the client, these, and one more; if it fails, the client is hung up on instead of forgotten."""

        def guarded(last: Any) -> None:
            try:
                work(client, *arguments, last)
            except Exception:
                log.exception("front.failed")
                client.abort()

        return guarded

    def _respond(self, client: Client, asked: SmallRequest, response: JsonResponse) -> None:
        client.respond(*self._shortcut.complete(response, asked).sent())

    def _rest_in_thread(self, client: Client, asked: SmallRequest, work: Callable[[], JsonResponse]) -> None:
        asked.environ["HTTP_X_REQUEST_ID"] = asked.id
        asked.environ[WORK] = work
        self._in_thread(client, asked.environ)

    def _in_thread(self, client: Client, environ: "WSGIEnvironment") -> None:
        self._threads.submit(self._run, client, environ)

    def _run(self, client: Client, environ: "WSGIEnvironment") -> None:
        if client.phase is Phase.ENDING and WORK not in environ:
            return  # nothing was done for it yet, and nobody would be told
        try:
            blocks, line, fields = run_wsgi_app(self._application, environ, buffered=True)
        except BaseException:
            log.exception("front.failed")
            self._loop.call_soon_threadsafe(client.abort)
            raise
        status, body = int(line[:3]), b"".join(blocks)
        if status not in (204, 304):
            fields.setdefault("Content-Length", str(len(body)))
        self._loop.call_soon_threadsafe(client.respond, status, list(fields), body)


def _raise(error: Exception) -> JsonResponse:
    raise error
