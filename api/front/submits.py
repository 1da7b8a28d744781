"""Submits of rows, answered by the loop."""

from functools import partial
from typing import Any

from api.front.answers import Answers
from api.front.client import Client
from api.front.waiting import Waiting
from api.headers import JsonResponse
from api.intake import accept, accepted_response
from api.shortcut import SmallRequest
from api.submission import Draft, queued, ring, tell
from api.waiting import must_read
from api.watch import Watch
from shared.records import Accepted, AliasMoved


class Submits:
    """Answers those of one process."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._services = answers.services
        self._expected = answers.services.waiters.expected

    def answer(self, client: Client, asked: SmallRequest) -> bool:
        """Answer one, now or later; False if a thread has to.

        Raises:
            WouldWait, and whatever refuses it.
        """
        if self._services.settings.replicas_acknowledge:
            return False
        rows = self._answers.shortcut.rows(asked)
        if rows is None:
            return False
        drafted, wait = rows
        draft = drafted()
        job = draft.first
        waiters = self._services.waiters
        with self._answers.waiting(client) as waiting:
            # If there is no place to wait at, the answer is the job as it is.
            if not wait or not waiting.watch(job.id, job.spec.owner, job.limits.waiters, spec=job.spec):
                waiters.expect(job)
            script, arguments = self._services.store.submission(job)
            told = self._answers.guarded(client, self._stored, asked, draft, wait, waiting)
            if self._answers.pipeline.send(script, arguments, told):
                waiting.keep()
                return True
        self._expected.forget((job.id,))
        return False

    def _stored(
        self, client: Client, asked: SmallRequest, draft: Draft, wait: float | None, waiting: Waiting, reply: Any
    ) -> None:
        job = draft.first
        with waiting:
            try:
                accepted = self._accepted(draft, reply)
            except Exception as error:  # noqa: BLE001  # Flask answers it
                self._expected.forget((job.id,))
                waiting.end()
                self._answers.fail(client, asked, error)
                return
            if accepted is None or not accepted.created:
                self._expected.forget((job.id,))
                waiting.end()
                # If need be once more, under the same id: a submit may safely be repeated.
                self._answers.rest_in_thread(client, asked, partial(accept, self._services, lambda: draft, wait))
                return
            tell(job)
            if accepted.ring:
                self._answers.threads.submit(ring, self._services, job.queue)
            made = partial(accepted_response, wait=wait)
            if not wait or not waiting.is_watching:
                self._answers.respond(client, asked, made(queued(job, accepted)))
                return

            def read() -> JsonResponse:
                return made(must_read(self._services, job.id, job.spec.owner))

            def awaited(client: Client, watch: Watch | None) -> None:
                self._answers.answer_news(
                    client, asked, watch, made, lambda: self._answers.rest_in_thread(client, asked, read)
                )

            waiting.begin(self._answers.loop.time() + wait, self._answers.guarded(client, awaited))

    def _accepted(self, draft: Draft, reply: Any) -> Accepted | None:
        """What became of the job; None if that is not known, or its alias has moved."""
        try:
            return None if reply is None else self._services.store.accepted(draft.first, reply)
        except AliasMoved:
            return None
