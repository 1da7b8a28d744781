"""The receiver of the jobs' webhooks: it refuses some of them, and knows at the end who was told what."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from tests.chaos.ledger import Finding, Submission
from tests.chaos.network import Network
from tests.integration.receivers import Got, Receiver

PROMISE: Final = "every end is told"
# Every so many requests are answered 503, so that they come again.
REFUSED: Final = 7


class Inbox:
    """A server on loopback behind the network; each submission has an address of its own."""

    def __init__(self, network: Network) -> None:
        self._receiver = Receiver(lambda number: 503 if number % REFUSED == 0 else 200)
        self._link = network.link("webhooks to receiver", self._receiver.port)

    def address(self, owner: str, key: str) -> str:
        """Where the end of a job is to be told."""
        return f"http://127.0.0.1:{self._link.port}/{owner}/{key}"

    @property
    def requests(self) -> int:
        """How many came."""
        return len(self._receiver.got)

    def missing(self, submissions: Sequence[Submission]) -> list[str]:
        """Keys of jobs whose end was not told, of those that are done."""
        told = {got.path for got in list(self._receiver.got)}
        return [each.key for each in submissions if each.webhook and each.done and _path(each.webhook) not in told]

    def check(self, submissions: Sequence[Submission], secrets: Mapping[str, str]) -> Iterator[Finding]:
        """Each end was told, as it is, under one id, with a signature by its owner's secret that holds."""
        got: dict[str, list[Got]] = defaultdict(list)
        for request in self._receiver.got:
            got[request.path].append(request)
        for submission in submissions:
            if submission.webhook and submission.done:
                requests = got.pop(_path(submission.webhook), [])
                yield from _check(submission, requests, secrets[submission.owner])
        for path in got:
            yield Finding(promise=PROMISE, what=f"an end was told to {path}, which is none")

    def close(self) -> None:
        """End the server."""
        self._receiver.stop()


def _path(address: str) -> str:
    return urlsplit(address).path


def _check(submission: Submission, requests: Sequence[Got], secret: str) -> Iterator[Finding]:
    name, job = f"{submission.work.name}, job {submission.job_id}", submission.seen or {}
    if not requests:
        yield Finding(promise=PROMISE, what=f"{name}: nothing came")
    if len({request.id for request in requests}) > 1:
        yield Finding(promise=PROMISE, what=f"{name}: it was told under several ids")
    for request in requests:
        event = request.event
        if not _signed(request, secret):
            yield Finding(promise=PROMISE, what=f"{name}: its signature does not hold")
        if (event["type"], event["data"]["id"]) != (f"job.{job['status']}", submission.job_id):
            yield Finding(promise=PROMISE, what=f"{name} is {job['status']}, but {event['type']} was told")


def _signed(request: Got, secret: str) -> bool:
    """Whether the signature holds. The library's `verify` minds the time too, and clocks are set here on purpose."""
    at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    signature = Webhook(secret).sign(request.id, at, request.body.decode())
    return signature in request.headers["webhook-signature"].split(" ")
