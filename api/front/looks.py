"""Looks at jobs, answered by the loop as `api.waiting.see` answers them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from api.front.answers import Answers
from api.front.client import Client
from api.front.waiting import Waiting
from api.headers import JsonResponse
from api.looks import Look
from api.shortcut import SmallRequest
from api.waiting import see
from api.watch import Watch
from shared.connection import WouldWait
from shared.job import Job, Spec


def answer_look(answers: Answers, client: Client, asked: SmallRequest) -> bool:
    """Answer one, now or later; False if a thread has to.

    Raises:
        WouldWait, and whatever keeps the caller out.
    """
    look = answers.shortcut.looked(asked)
    return look is not None and _Looking(answers, client, asked, look).begin()


class _Looking:
    """One client's look at a job, on the way to its answer."""

    def __init__(self, answers: Answers, client: Client, asked: SmallRequest, look: Look) -> None:
        self._answers = answers
        self._services = answers.services
        self._client = client
        self._asked = asked
        self._look = look
        self._expected = answers.services.waiters.expected
        self._patience_seconds = answers.services.settings.poll_patience_seconds

    def begin(self) -> bool:
        """Answer it, now or later; False if a thread has to.

        Raises:
            WouldWait
        """
        if self._was_heard():
            return True
        look = self._look
        if look.wait:
            return self._wait(look.wait)
        spec = self._awaited() if look.wait is None and self._patience_seconds else None
        if spec is not None and self._services.waiters.is_told():
            return self._wait(self._patience_seconds, spec, reads=False)
        return self._read(self._first)

    def _was_heard(self) -> bool:
        """Answer with what was heard of a job that this process accepted, if there is something."""
        look = self._look
        job = self._expected.take(look.job_id, look.who.owner) if look.known is None else None
        if job is not None:
            self._respond(job)
        return job is not None

    def _awaited(self) -> Spec | None:
        """The spec of a job whose end will be heard."""
        look = self._look
        return self._expected.awaits(look.job_id, look.who.owner) if look.known is None else None

    def _first(self, job: Job | None) -> None:
        """Go on after it was read without a wait."""
        wait = self._look.patience(job, self._patience_seconds)
        if not wait or job is None:
            self._respond(job)
        elif not self._wait(wait, job.spec):
            raise WouldWait

    def _wait(self, seconds: float, spec: Spec | None = None, *, reads: bool = True) -> bool:
        """Hear of the job from now on. Unless it `reads`, a moment may be lost to a job that has ended before."""
        look, answers = self._look, self._answers
        owner, most = look.who.owner, look.who.limits.waiters
        until = answers.loop.time() + seconds
        with answers.waiting(self._client) as waiting:
            if not waiting.watch(look.job_id, owner, most, known=look.known, spec=spec):
                return self._read(self._respond)
            # Of what was heard before, the watch hears nothing.
            if self._was_heard():
                return True
            if reads or self._awaited() is None:
                return self._read(partial(self._watched, waiting, until), waiting)
            waiting.begin(until, self._answers.guarded(self._client, self._told))
        return True

    def _watched(self, waiting: Waiting, until: float, job: Job | None) -> None:
        """Go on after it was read, now that the watch has begun."""
        if job is not None and (job.done or self._look.known is not None):
            waiting.end()  # the answer may begin the next request, which may want the place
            self._respond(job)
            return
        if job is not None:
            waiting.knows(job.spec)
        waiting.begin(until, self._answers.guarded(self._client, self._told))

    def _told(self, client: Client, watch: Watch | None) -> None:
        def read() -> None:
            if not self._read(self._respond):
                self._go_on_in_thread()

        self._look = replace(self._look, wait=0.0)  # it is over
        self._answers.answer_news(client, self._asked, watch, self._response, read)

    def _read(self, then: Callable[[Job | None], None], waiting: Waiting | None = None) -> bool:
        """Read the job, and call `then` with it, or with None if it is as it was known; False: there is no way now."""
        look = self._look
        script, arguments = self._services.store.reading(look.job_id, owner=look.who.owner, known_revision=look.known)
        told = self._answers.guarded(self._client, partial(self._replied, then, waiting))
        is_sent = self._answers.pipeline.send(script, arguments, told)
        if is_sent and waiting is not None:
            waiting.keep()
        return is_sent

    def _replied(self, then: Callable[[Job | None], None], waiting: Waiting | None, client: Client, reply: Any) -> None:
        with nullcontext() if waiting is None else waiting:
            try:
                if reply is None:
                    raise WouldWait
                then(self._services.store.snapshot(self._look.job_id, reply))
            except WouldWait:
                if waiting is not None:
                    waiting.end()
                self._go_on_in_thread()
            except Exception as error:  # noqa: BLE001  # Flask answers it
                if waiting is not None:
                    waiting.end()
                self._answers.fail(client, self._asked, error)

    def _go_on_in_thread(self) -> None:
        services, look = self._services, self._look
        self._answers.rest_in_thread(self._client, self._asked, lambda: look.response(see(services, look)))

    def _response(self, job: Job | None) -> JsonResponse:
        if job is not None and job.done:
            self._expected.forget((job.id,))
        return self._look.response(job)

    def _respond(self, job: Job | None) -> None:
        self._answers.respond(self._client, self._asked, self._response(job))
