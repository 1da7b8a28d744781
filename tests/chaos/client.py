"""A client that gives up on nothing: what may mend itself is sent again, anything else is a finding."""

import http.client
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from tests.chaos.ledger import Job, Ledger, Submission
from tests.chaos.workload import TRAINED, File, Rows, Training
from tests.processes import Answer, Http

# Answers of a refusal that says "send it again", beside 429 and those of 5xx.
AGAIN: Final = frozenset({"incomplete_body"})
PAUSE_SECONDS: Final = 0.2
PRIORITIES: Final = ("normal", "normal", "normal", "high", "low")

Request = Callable[[Http], Answer]


class GivenUp(Exception):
    """There was no time left to send it again."""


class Client:
    """Speaks to any of several APIs, each time to another, each of which has the key of its owner; of one thread."""

    def __init__(
        self,
        apis: Sequence[Http],
        ledger: Ledger,
        chance: random.Random,
        given_up: threading.Event,
        *,
        owner: str,
    ) -> None:
        self.owner = owner
        self._apis = apis
        self._ledger = ledger
        self._chance = chance
        self._given_up = given_up

    def ask(self, request: Request) -> Answer:
        """The answer to a request, sent until there is one that is not about the moment.

        Raises:
            GivenUp
        """
        while not self._given_up.is_set():
            why = self._try(request)
            if isinstance(why, Answer):
                return why
            self._ledger.retry(why)
            self._given_up.wait(self._chance.uniform(0.5, 1.5) * PAUSE_SECONDS)
        raise GivenUp

    def submit(self, submission: Submission, *, twice: bool = False) -> None:
        """Send something until it is acknowledged; `twice`: also at the same time to every API.

        Raises:
            GivenUp
        """
        request = self._request(submission)
        others = [
            threading.Thread(target=self._send_once, args=(submission, request, api), daemon=True)
            for api in (self._apis if twice else ())
        ]
        for other in others:
            other.start()
        try:
            answer = self.ask(request)
            self._acknowledged(submission, answer)
        finally:
            for other in others:
                other.join()

    def read(self, submission: Submission) -> None:
        """Look at a job that was acknowledged.

        Raises:
            GivenUp
        """
        job_id = submission.job_id
        answer = self.ask(lambda api: api("GET", f"/jobs/{job_id}", seconds=5))
        if answer.status == 200:
            self._ledger.observe(submission, answer.json)
        else:
            self._ledger.find("accepted means kept", f"job {job_id} is answered {answer.status} {answer.body[:200]!r}")

    def cancel(self, submission: Submission) -> None:
        """Cancel a job, if it is not done by then.

        Raises:
            GivenUp
        """
        submission.cancel_tried = True
        answer = self.ask(lambda api: api("POST", f"/jobs/{submission.job_id}/cancel", seconds=5))
        submission.cancel_promised = answer.status in (200, 202)
        if answer.status not in (200, 202, 409):
            self._ledger.find("accepted means kept", f"a cancel was answered {answer.status} {answer.body[:200]!r}")

    def get(self, path: str) -> Answer:
        """An answer that must be 200.

        Raises:
            AssertionError, GivenUp
        """
        answer = self.ask(lambda api: api("GET", path, seconds=30))
        assert answer.status == 200, f"GET {path} is answered {answer.status} {answer.body[:200]!r}"
        return answer

    def listed(self) -> list[str]:
        """The ids of all jobs, as the list has them.

        Raises:
            AssertionError, GivenUp
        """
        found, cursor = list[str](), ""
        while True:
            page: dict[str, Any] = self.get(f"/jobs?limit=200{cursor}").json
            found += [job["id"] for job in page["jobs"]]
            if page["next"] is None:
                return found
            cursor = f"&{urlencode({'cursor': page['next']})}"

    def delete(self, job_id: str) -> None:
        """Remove a job that is done.

        Raises:
            AssertionError, GivenUp
        """
        answer = self.ask(lambda api: api("DELETE", f"/jobs/{job_id}", seconds=30))
        # 410: the answer to the first try was lost.
        assert answer.status in (204, 410), f"DELETE of {job_id} is answered {answer.status} {answer.body[:200]!r}"

    def _try(self, request: Request) -> Answer | str:
        """The answer, or why it is to be sent again."""
        try:
            answer = request(self._chance.choice(self._apis))
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        if answer.status < 400:
            return answer
        code = _code(answer)
        if answer.status == 500:
            self._ledger.find("no fault of its own", f"500 {answer.body[:300]!r}")
        again = answer.status >= 500 or answer.status == 429 or code in AGAIN
        return f"{answer.status} {code}" if again else answer

    def _send_once(self, submission: Submission, request: Request, api: Http) -> None:
        try:
            answer = request(api)
        except (OSError, http.client.HTTPException):
            return
        if answer.status < 400:
            self._ledger.count_twice()
            self._acknowledged(submission, answer)

    def _acknowledged(self, submission: Submission, answer: Answer) -> None:
        if answer.status in (200, 202):
            job: Job = answer.json
            self._ledger.acknowledge(submission, job)
        else:
            self._ledger.find(
                "nothing is refused that is right", f"{submission.work.name}: {answer.status} {answer.body[:300]!r}"
            )

    def _request(self, submission: Submission) -> Request:
        """One and the same request, however often it is sent."""
        headers: dict[str, Any] = {"Idempotency_Key": submission.key}
        priority = self._chance.choice(PRIORITIES)
        webhook = {"webhook": submission.webhook} if submission.webhook else {}
        match submission.work:
            case Rows() as work:
                if self._chance.random() < 0.3:
                    headers["Prefer"] = "wait=1"
                body: Any = {"model": work.model, "instances": work.instances, "priority": priority}
                if webhook:
                    body["webhook"] = {"url": submission.webhook}
                return lambda api: api("POST", "/jobs", body, seconds=10, **headers)
            case File() as work:
                headers["Content_Type"] = "text/csv"
                if work.compressed:
                    headers["Content_Encoding"] = "gzip"
                query = {"model": work.model, "key": "id", "priority": priority, **webhook}
                path = f"/jobs?{urlencode(query)}"
            case Training() as work:
                headers["Content_Type"] = "text/csv"
                path = f"/models/{TRAINED}/retrain?{urlencode({'target': 'y', 'promote': 'never', **webhook})}"
        return lambda api: api("POST", path, raw=work.data, seconds=20, **headers)


def _code(answer: Answer) -> str:
    try:
        return str(answer.json["code"])
    except (ValueError, KeyError, TypeError):
        return "?"
