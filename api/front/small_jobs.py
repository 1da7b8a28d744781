"""The two requests of a small job, answered by the loop: a submit of rows, and a look at a job.

The loop never waits. What would have to, and all that is out of the ordinary, is done in threads, by the same
application that granian calls: before anything was changed, or as the rest of what was begun here.
"""

from typing import Final

import structlog

from api.front.answers import Answers
from api.front.client import Client, Phase
from api.front.head import Request, environ_of
from api.front.looks import answer_look
from api.front.submits import Checked, Submits
from api.shortcut import SmallRequest
from shared.connection import WouldWait

log = structlog.get_logger()

# To check the rows of a larger body takes so long that other clients would notice: a thread does it.
MOST_BODY_BYTES: Final = 2**13


class SmallJobs:
    """Answers the requests of one process."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._submits = Submits(answers)

    def answer(self, client: Client, request: Request) -> None:
        """Answer a request, now or later."""
        asked = SmallRequest(environ_of(request))
        if not self._answers.shortcut.takes(asked.environ):
            self._answers.in_thread(client, asked.environ)
        elif len(request.body) > MOST_BODY_BYTES or not self._is_answered(client, asked, None):
            self._answers.threads.submit(self._prepare, client, asked)

    def _is_answered(self, client: Client, asked: SmallRequest, checked: Checked | None) -> bool:
        """Whether it is, now or later; False if something has to be looked up first."""
        try:
            if asked.environ["REQUEST_METHOD"] == "GET":
                taken = answer_look(self._answers, client, asked)
            else:
                taken = self._submits.answer(client, asked, checked)
        except WouldWait:
            return False
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self._answers.fail(client, asked, error)
            return True
        if not taken:
            self._answers.in_thread(client, asked.environ)
        return True

    def _prepare(self, client: Client, asked: SmallRequest) -> None:
        """In a thread: look up who asks, or which version is meant, and check the rows; then the loop goes on.

        What is looked up is remembered for a while.
        """
        if client.phase is Phase.ENDING:
            return  # nothing was done for it yet, and nobody would be told
        checked: Checked | None = None
        try:
            if asked.environ["REQUEST_METHOD"] == "GET":
                is_taken = self._answers.shortcut.looked(asked) is not None
            else:
                checked = self._submits.checked(asked)
                is_taken = checked is not None
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self._answers.fail(client, asked, error)
            return
        if is_taken:
            self._answers.loop.call_soon_threadsafe(self._go_on, client, asked, checked)
        else:
            self._answers.in_thread(client, asked.environ)

    def _go_on(self, client: Client, asked: SmallRequest, checked: Checked | None) -> None:
        if client.phase is Phase.ENDING:
            return
        try:
            if not self._is_answered(client, asked, checked):
                self._answers.in_thread(client, asked.environ)
        except Exception:
            log.exception("front.failed")
            client.abort()
