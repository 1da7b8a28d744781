"""Sending again: what is about the moment is tried anew, later each time, and never done twice."""

import logging
import secrets
import time
from dataclasses import dataclass
from typing import Final

import httpx

from foretell.errors import Problem, Unreachable
from foretell.flow import Flow, Open, Pause, Request, Send, T

# Too many, and away for a moment; 502 and 504 are those of a proxy whose service is being restarted.
AGAIN: Final = frozenset({429, 502, 503, 504})
# Of these the service knows that nothing was done.
REFUSED: Final = frozenset({429})
# Nothing has left this machine yet.
NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What the service asks for is less; what is between may want hours.
LONGEST_ASKED_SECONDS: Final = 120.0
log: Final = logging.getLogger("foretell")
_chance: Final = secrets.SystemRandom()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how soon: pauses double from `first_seconds` to `longest_seconds`, each up to a half shorter by
    chance so that many clients do not come back at once. A `Retry-After` that is longer holds, up to
    LONGEST_ASKED_SECONDS.
    """

    retries: int = 5
    first_seconds: float = 0.5
    longest_seconds: float = 10.0

    def pause_seconds(self, attempt: int, error: Exception) -> float:
        """How long to wait after a failed attempt, the first of which is 1."""
        pause = min(self.longest_seconds, self.first_seconds * 2.0 ** (attempt - 1)) * _chance.uniform(0.5, 1.0)
        asked = error.retry_after_seconds if isinstance(error, Problem) else None
        return max(pause, min(asked or 0.0, LONGEST_ASKED_SECONDS))

    def may_repeat(self, request: Request, error: Exception, attempt: int) -> bool:
        """Whether a request is to be sent again after so many attempts."""
        if attempt > self.retries or not request.insist:
            return False
        if isinstance(error, Problem):
            return error.status in AGAIN and (request.repeatable or error.status in REFUSED)
        return isinstance(error, httpx.TransportError) and (request.repeatable or isinstance(error, NEVER_SENT))


def insistent(flow: Flow[T], policy: RetryPolicy) -> Flow[T]:
    """The same flow, whose requests are sent until there is an answer that is not about the moment.

    Raises:
        Unreachable, and the Problem of the last attempt
    """
    came, error = None, None
    while True:
        try:
            step = flow.send(came) if error is None else flow.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        came, error = None, None
        try:
            came = (yield from _insist(step, policy)) if isinstance(step, Send | Open) else (yield step)
        except GeneratorExit:
            flow.close()
            raise
        except Exception as raised:  # noqa: BLE001 - it is the flow's to handle
            error = raised


def _insist(step: Send | Open, policy: RetryPolicy) -> Flow[object]:
    attempt, begun = 1, time.monotonic()
    while True:
        try:
            came: object = yield step
        except (Problem, httpx.TransportError) as error:
            pause, told = policy.pause_seconds(attempt, error), _told(error)
            late = step.request.deadline is not None and time.monotonic() + pause > step.request.deadline
            if late or not policy.may_repeat(step.request, error, attempt):
                if isinstance(error, Problem):
                    raise
                raise unreachable(error, attempt, time.monotonic() - begun) from error
        else:
            return came
        log.info("%s Trying again in %.1f s.", told, pause)
        yield Pause(pause)
        attempt += 1


def _told(error: Problem | httpx.TransportError) -> str:
    if isinstance(error, Problem):
        return error.detail
    return f"The service does not answer ({str(error) or type(error).__name__})."


def unreachable(error: httpx.TransportError, attempts: int, seconds: float) -> Unreachable:
    """What to say of a service that does not answer."""
    place = ""
    if error._request is not None:
        place = f" at {error.request.url.scheme}://{error.request.url.netloc.decode()}"
    tries = "once" if attempts == 1 else f"{attempts} times in {seconds:.0f} s"
    reason = str(error) or type(error).__name__
    return Unreachable(f"The service{place} does not answer (tried {tries}): {reason}")
