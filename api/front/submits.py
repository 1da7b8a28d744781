"""Submits of rows, answered by the loop."""

from functools import partial
from typing import Any

from api.front.answers import Answers
from api.front.client import Client
from api.front.waiting import Waiting
from api.headers import JsonResponse
from api.intake import accept, accepted_response
from api.repeats import Repeated
from api.shortcut import SmallRequest
from api.submission import Draft, queued, ring, tell
from api.waiting import must_read
from api.watch import Watch
from shared.connection import WouldWait
from shared.records import Accepted, AliasMoved

# A job whose rows are checked, and how long is waited for it.
Checked = tuple[Draft, float | None]


class Submits:
    """Answers those of one process."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._services = answers.services
        self._expected = answers.services.waiters.expected

    def answer(self, client: Client, asked: SmallRequest, checked: Checked | None = None) -> bool:
        """Answer one, now or later; False if a thread has to. What is `checked` is not checked again.

        Raises:
            WouldWait, and whatever refuses it.
        """
        checked = checked or self.checked(asked)
        if checked is None:
            return False
        draft, wait = checked
        if not self._is_sent(client, asked, draft, wait):
            self._expected.forget((draft.first.id,))
            self._go_on_in_thread(client, asked, draft, wait)
        return True

    def checked(self, asked: SmallRequest) -> Checked | None:
        """The job that is asked for, and how long is waited for it; None if the whole request is a thread's.

        Raises:
            WouldWait, and whatever refuses it.
        """
        if self._services.settings.replicas_acknowledge:
            return None
        rows = self._answers.shortcut.rows(asked)
        if rows is None:
            return None
        drafted, wait = rows
        try:
            return drafted(), wait
        except Repeated:
            return None

    def _is_sent(self, client: Client, asked: SmallRequest, draft: Draft, wait: float | None) -> bool:
        job = draft.first
        try:
            with self._answers.waiting(client) as waiting:
                # If there is no place to wait at, the answer is the job as it is.
                if not wait or not waiting.watch(job.id, job.spec.owner, job.limits.waiters, spec=job.spec):
                    self._services.waiters.expect(job)
                script, arguments = self._services.store.submission(job)
                told = self._answers.guarded(client, self._stored, asked, draft, wait, waiting)
                is_sent = self._answers.pipeline.send(script, arguments, told)
                if is_sent:
                    waiting.keep()
                return is_sent
        except WouldWait:
            return False

    def _go_on_in_thread(self, client: Client, asked: SmallRequest, draft: Draft, wait: float | None) -> None:
        # If need be once more, under the same id: a submit may safely be repeated.
        self._answers.rest_in_thread(client, asked, partial(accept, self._services, lambda: draft, wait))

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
                self._go_on_in_thread(client, asked, draft, wait)
                return
            tell(job)
            if accepted.ring:
                self._answers.threads.submit(ring, self._services, job.queue)
            made = partial(accepted_response, wait=wait)
            if not wait or not waiting.is_watching:
                self._answers.respond(client, asked, made(queued(job, accepted)))
                return

            # What follows must not hold the rows for as long as the client waits.
            asked.forget_body()
            read_job = partial(must_read, self._services, job.id, job.spec.owner)

            def read() -> JsonResponse:
                return made(read_job())

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
