"""The two requests of a small job, answered by the loop: a submit of rows, and a look at a job.

The loop never waits. What would have to, and all that is out of the ordinary, is done in threads, by the same
application that granian calls: before anything was changed, or as the rest of what was begun here.
"""

import asyncio
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from api.front.answers import Answers
from api.front.client import Client
from api.front.head import Request, environ_of
from api.front.looks import Looks
from api.front.pipeline import Pipeline
from api.front.submits import Submits
from api.services import Services
from api.shortcut import Shortcut, SmallRequest
from shared.connection import WouldWait

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

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
        self._shortcut = shortcut
        self._answers = Answers(loop, application, shortcut, threads)
        self._looks = Looks(loop, self._answers, shortcut, services, pipeline)
        self._submits = Submits(loop, self._answers, shortcut, services, pipeline, threads)

    def answer(self, client: Client, request: Request) -> None:
        """Answer a request, now or later."""
        environ, taken = environ_of(request), False
        asked = SmallRequest(environ)
        try:
            if len(request.body) <= MOST_BODY_BYTES and self._shortcut.takes(environ):
                answers = self._looks if request.method == "GET" else self._submits
                taken = answers.answer(client, asked)
        except WouldWait:
            pass
        except Exception as error:  # noqa: BLE001  # Flask answers it
            self._answers.fail(client, asked, error)
            return
        if not taken:
            self._answers.in_thread(client, environ)
